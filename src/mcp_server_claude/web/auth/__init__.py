"""Bearer tokens of an OpenID Connect identity provider."""
