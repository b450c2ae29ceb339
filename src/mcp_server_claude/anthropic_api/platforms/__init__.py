"""The platforms that serve Claude: Anthropic's own API, AWS, Bedrock, Vertex and Foundry, one file each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude.anthropic_api.platforms.anthropic import AnthropicPlatform
from mcp_server_claude.anthropic_api.platforms.aws import ClaudePlatformOnAws
from mcp_server_claude.anthropic_api.platforms.bedrock import Bedrock, BedrockMantle
from mcp_server_claude.anthropic_api.platforms.foundry import Foundry
from mcp_server_claude.anthropic_api.platforms.vertex import Vertex

if TYPE_CHECKING:
    from mcp_server_claude.anthropic_api.credentials import Credential
    from mcp_server_claude.anthropic_api.platforms.platform import Platform
    from mcp_server_claude.settings import PlatformName, Settings

__all__ = ["PLATFORMS", "find_credential"]

PLATFORMS: dict[PlatformName, Platform] = {
    platform.name: platform
    for platform in (AnthropicPlatform(), ClaudePlatformOnAws(), Bedrock(), BedrockMantle(), Vertex(), Foundry())
}


def find_credential(settings: Settings) -> Credential:
    """The credential that requests to the configured platform will carry.

    Raises:
        ConfigurationError: A package, a region, a project or a key is missing, or cannot be sent.
    """
    return PLATFORMS[settings.platform].find_credential(settings)
