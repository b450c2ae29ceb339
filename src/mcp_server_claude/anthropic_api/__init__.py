"""The Messages API, reached through Anthropic's SDK: requests, streams, files, models, platforms and their errors."""

from mcp_server_claude.lazy_packages import make_packages_lazy

make_packages_lazy("anthropic")  # imported as a whole it has 3,000 modules, of which this server uses a third
