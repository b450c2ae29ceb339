"""Drivers of a real browser for the tests of the web pages."""
