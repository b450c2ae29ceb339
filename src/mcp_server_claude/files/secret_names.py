"""Names of files that are likely to hold secrets. The content of a file is never looked at for this."""

from __future__ import annotations

import re
import unicodedata
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SECRET_DIRECTORIES = (
    *(".ssh", ".aws", ".gnupg", ".gpg", ".kube", ".azure", ".oci", ".password-store", ".1password", ".mozilla"),
    *(".thunderbird", ".secrets", ".chef", ".electrum", ".bitcoin", ".ethereum", ".terraform.d", ".minikube"),
    *("keychains", "keyrings"),
)
"""Directories in which every file counts as a secret."""

SECRET_FILE_GLOBS = (
    *(".env*", "*.env", ".flaskenv", ".dev.vars*", "*.pem", "*.key", "*.p12", "*.pfx", "*.p8", "*.pk8", "*.ppk"),
    *("*.jks", "*.keystore", "*.kdb", "*.kdbx", "*.asc", "*.gpg", "*.pgp", "*.agekey", "*.keytab", "*.ovpn", "*.rdp"),
    *("id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "*_rsa", "*_ed25519", "ssh_host_*_key", "secring.*"),
    *(".netrc", "_netrc", ".npmrc", ".yarnrc*", ".pypirc", ".pgpass", "pgpass.conf", ".my.cnf", ".mylogin.cnf"),
    *("pip.conf", "pip.ini", ".condarc", "nuget.config", ".curlrc", ".wgetrc", ".msmtprc", ".fetchmailrc"),
    *(".git-credentials", ".gitcookies", ".htpasswd*", "htpasswd", "*.htpasswd", ".htdigest", "htdigest"),
    *(".vault-token", ".vault_pass*", ".vault-pass*", "vault_pass*", "vault-pass*", ".dockercfg", ".boto", ".s3cfg"),
    *(".databrickscfg", ".sentryclirc", ".terraformrc", "terraform.rc", "*.tfstate", "*.tfstate.*", "*.tfvars"),
    *("*.tfvars.json", "wallet.dat", "shadow", "gshadow", "shadow-", "gshadow-", "master.key", "*.publishsettings"),
    *(".?*history", "consolehost_history.txt", ".viminfo", ".lesshst", "wp-config.php", "*.secrets"),
    # Browsers and mail: cookies and saved passwords.
    *("cookies", "cookies.sqlite*", "login data", "login data for account", "web data", "key[34].db", "logins.json"),
    # Agents and their MCP servers: keys stand in the configuration, tokens beside it.
    *(".claude.json", "claude_desktop_config.json", ".mcp.json", "mcp.json", "*mcp_config.json", "*mcp-config.json"),
    *("*mcp_settings.json", "auth.json", "oauth_creds.json", ".aider.conf.yml", "kaggle.json", "ngrok.yml"),
    # Networks.
    *("wg[0-9]*.conf", "wpa_supplicant*.conf", "*.nmconnection", "ipsec.secrets"),
    # FTP clients, and keys of services.
    *("filezilla.xml", "sitemanager.xml", "recentservers.xml", "winscp.ini", "local.settings.json"),
    *("appsettings.production.json", "key.properties", "keystore.properties", ".wakatime.cfg", "op-session*"),
    *("env.local", "env.production", "env.staging", "env.development", "*.env.json", "*.env.yml", "*.env.yaml"),
    *("token.json", "token.txt", "token.pickle", "*oauth_token*", "*[-_]token.txt", "*[-_]token.json"),
    # Exports of password managers and browsers, and wallets.
    *("*bitwarden*", "*1password*export*", "*lastpass*export*", "*keepass*export*", "cookies.txt", "*.keychain"),
    *("*.keychain-db", "wallet.json", "seed.txt", "utc--*"),
)
"""Names of files, in lower case."""

SECRET_WORD_GLOBS = (
    *("credentials*", ".credentials*", "secrets", "secrets.*", "secret.*", ".secret*", "service-account*"),
    *("service_account*", "serviceaccount*", "kubeconfig*", "*.kubeconfig", "client_secret*", "client-secret*"),
    *("application_default_credentials*", "*firebase-adminsdk*", "vault.yml", "vault.yaml", "*[-_]vault.yml"),
    *("*[-_]vault.yaml", "*[-_]key", "*[-_]key.txt", "*[-_]key.json"),
)
"""Names of files unless their suffix is that of source code: `credentials.py` is about secrets and holds none."""

SOURCE_SUFFIXES = (
    *(".py", ".pyi", ".js", ".mjs", ".cjs", ".jsx", ".ts", ".tsx", ".go", ".rs", ".java", ".kt", ".scala", ".rb"),
    *(".php", ".cs", ".c", ".h", ".cc", ".cpp", ".hpp", ".swift", ".ex", ".exs", ".vue", ".svelte", ".md", ".rst"),
)

SECRET_WORDS = (
    *("secret", "secrets", "password", "passwords", "passwd", "passphrase", "pwd", "credential", "credentials"),
    *("apikey", "apikeys", "privatekey", "mnemonic"),
    *("api key", "api keys", "private key", "private keys", "secret key", "access key", "access keys", "deploy key"),
    *("signing key", "encryption key", "ssh key", "access token", "auth token", "api token", "api tokens"),
    *("refresh token", "bearer token", "seed phrase", "recovery codes", "backup codes"),
)
"""Words of a name, divided by dots, dashes, underscores, spaces or capitals, where its suffix is one of data."""

DATA_SUFFIXES = (
    *("", ".txt", ".json", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".conf", ".config", ".properties", ".xml"),
    *(".csv", ".tsv", ".xls", ".xlsx", ".ods", ".doc", ".docx", ".odt", ".rtf", ".pdf", ".plist", ".bin", ".dat"),
    *(".bak", ".old", ".orig", ".save", ".swp", ".db", ".sqlite"),
)

SECRET_PATH_GLOBS = (
    *(".git/config", "*/.git/config", "*.git/*/config", "*.git/credentials"),
    *("*gh/hosts.yml", "*glab-cli/config.yml", "*github-copilot/*", "*.config/hub", "*.gem/credentials"),
    *("*.bundle/config", "*.m2/settings*.xml", "*.gradle/gradle.properties", "*.config/composer/*"),
    *("*mcp-server-claude/config.toml", "*.codex/config.toml", "*.continue/config.*", "*.codeium/config.json"),
    *("*rclone/rclone.conf", "*doctl/config.yaml", "*.docker/config.json", "*.config/gcloud/*", "*.snowsql/config"),
    *("*.snowflake/*", "*.config/configstore/*", "*.config/stripe/*", "*.wrangler/config/*", "*.supabase/*token*"),
    *("*.fly/config.yml", "*.circleci/cli.yml", "*.config/op/config", "*sops/age/keys.txt", "*huggingface/token"),
    *("*.netlify/config.json", "*.railway/config.json", "*.cloudflared/*.json", "*.gsutil/*", "*.mc/config.json"),
    *("*.config/openai*", "*.config/anthropic*", ".openai", ".anthropic", "*.expo/state.json"),
    *("*.idea/datasources*.xml", "*huggingface/stored_tokens", "*.irssi/config", "*.dbeaver*/credentials-config.json"),
    *("*google-chrome*/*", "*google/chrome/*", "*chromium/*", "*brave-browser/*", "*bravesoftware/*"),
    *("*microsoft-edge*/*", "*microsoft edge/*", "*microsoft/edge/*", "*vivaldi/*", "*com.operasoftware*/*"),
)
"""Paths below a root of files whose name alone says nothing."""

HARMLESS_GLOBS = (
    *(".env.example", ".env.sample", ".env.template", ".env.dist", ".env.defaults", "example.env", "sample.env"),
    *(".dev.vars.example", "id_*.pub", "*public[-_]key*", "*pub[-_]key*"),
)

_BACKUP_SUFFIX = re.compile(r"(?:~|\.(?:bak|backup|old|orig|save|swp|copy))+$")
_WORD_BOUNDARY = re.compile(r"[^a-z0-9]+")
_CAMEL_CASE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def matching_pattern(parts: Sequence[str], allow_globs: Sequence[str]) -> str:
    """The pattern by which a path looks like a secret; empty where none matches, or one of `allow_globs` does.

    A backup (`.npmrc~`, `x.p12.bak`) is as secret as its original, unless its own name is allowed.
    """
    plain = [_normalize_name(part) for part in parts]
    if not plain:
        return ""
    name, path = plain[-1], "/".join(plain)
    if any(fnmatchcase(name, glob) or fnmatchcase(path, glob) for glob in map(_normalize_name, allow_globs)):
        return ""
    if by_name := _pattern_of(plain, parts[-1]):
        return by_name
    original = _BACKUP_SUFFIX.sub("", name)
    return _pattern_of([*plain[:-1], original], original) if original not in {"", name} else ""


def _pattern_of(plain: Sequence[str], written: str) -> str:
    """The pattern of a path of normalized parts; `written` is the last part as it stands, with its capitals."""
    name, path = plain[-1], "/".join(plain)
    if directory := private_directory(plain):
        return f"{directory}/**"
    if any(fnmatchcase(name, glob) for glob in HARMLESS_GLOBS):
        return ""
    globs = SECRET_FILE_GLOBS if name.endswith(SOURCE_SUFFIXES) else SECRET_FILE_GLOBS + SECRET_WORD_GLOBS
    by_name = next((glob for glob in globs if fnmatchcase(name, glob)), "") or _secret_word(written)
    return by_name or next((glob for glob in SECRET_PATH_GLOBS if fnmatchcase(path, glob)), "")


def private_directory(parts: Sequence[str]) -> str:
    """The directory of secrets that a path leads into, empty where there is none."""
    return next((part for part in map(_normalize_name, parts) if part in SECRET_DIRECTORIES), "")


def _secret_word(name: str) -> str:
    """The word in the name of a data file that speaks of a secret, between stars, empty where there is none."""
    plain = _normalize_name(_CAMEL_CASE.sub("_", name))
    stem, dot, suffix = plain.rpartition(".")
    if not stem or suffix in SECRET_WORDS:  # `deploy_key`, `.password`, `db.password`
        stem, dot, suffix = plain, "", ""
    if dot + suffix not in DATA_SUFFIXES:
        return ""
    words = f" {_WORD_BOUNDARY.sub(' ', stem).strip()} "
    found = next((word for word in SECRET_WORDS if f" {word} " in words), "")
    return f"*{found.replace(' ', '_')}*" if found else ""


def _normalize_name(name: str) -> str:
    """A name as file systems that fold case or ignore characters without width may compare it."""
    if name.isascii():
        return name.lower().rstrip(" .") or name
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(each for each in folded if unicodedata.category(each) != "Cf").rstrip(" .")
