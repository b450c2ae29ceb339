"""Names that look as if a secret were behind them. What a file holds is never looked at for this."""

from __future__ import annotations

import unicodedata
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SECRET_DIRECTORIES = (
    *(".ssh", ".aws", ".gnupg", ".gpg", ".kube", ".azure", ".oci", ".password-store", ".1password", ".mozilla"),
    *("keychains", "keyrings"),
)
"""Directories with everything in them."""

SECRET_FILE_GLOBS = (
    *(".env*", "*.env", "*.pem", "*.key", "*.p12", "*.pfx", "*.p8", "*.ppk", "*.jks", "*.keystore", "*.kdbx"),
    *("id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "*_rsa", "*_ed25519", "ssh_host_*_key", "secring.*"),
    *(".netrc", "_netrc", ".npmrc", ".yarnrc*", ".pypirc", ".pgpass", "pgpass.conf", ".my.cnf", ".mylogin.cnf"),
    *(".git-credentials", ".gitcookies", ".htpasswd", ".vault-token", ".dockercfg", ".boto", ".s3cfg", ".terraformrc"),
    *("*.tfstate", "*.tfstate.*", "*.tfvars", "*.tfvars.json", "wallet.dat", "cookies.sqlite", "key[34].db"),
    *("logins.json", "shadow", "gshadow", "master.key", ".*_history", ".claude.json", "*.ovpn", "*.keytab"),
)
"""Names of files, in lower case."""

SECRET_WORD_GLOBS = (
    *("credentials*", ".credentials*", "secrets", "secrets.*", "secret.*", "service-account*", "service_account*"),
    *("serviceaccount*", "kubeconfig*", "client_secret*", "application_default_credentials*", "*.kubeconfig"),
)
"""As `NAMES`, but source code may be called so: `credentials.py` is about secrets, it holds none."""

SOURCE_SUFFIXES = (
    *(".py", ".pyi", ".js", ".mjs", ".cjs", ".jsx", ".ts", ".tsx", ".go", ".rs", ".java", ".kt", ".scala", ".rb"),
    *(".php", ".cs", ".c", ".h", ".cc", ".cpp", ".hpp", ".swift", ".ex", ".exs", ".vue", ".svelte", ".md", ".rst"),
)

SECRET_PATH_GLOBS = (
    *(".git/config", "*/.git/config", "*.git/*/config", "*.git/credentials"),
    *("*gh/hosts.yml", "*glab-cli/config.yml", "*.gem/credentials", "*.m2/settings.xml", "*.gradle/gradle.properties"),
    *("*mcp-server-claude/config.toml", "*rclone/rclone.conf", "*google-chrome/*", "*doctl/config.yaml"),
    *("*.docker/config.json", "*.config/gcloud/*"),
)
"""Where the name alone says nothing."""

HARMLESS_GLOBS = (
    *(".env.example", ".env.sample", ".env.template", ".env.dist", ".env.defaults", "example.env", "sample.env"),
    *("id_*.pub",),
)


def matching_pattern(parts: Sequence[str], allow_globs: Sequence[str]) -> str:
    """The pattern by which a path looks like a secret, empty when it does not or is among the `allowed` globs."""
    plain = [_normalize_name(part) for part in parts]
    if not plain:
        return ""
    name, path = plain[-1], "/".join(plain)
    if any(fnmatchcase(name, glob) or fnmatchcase(path, glob) for glob in map(_normalize_name, allow_globs)):
        return ""
    if directory := private_directory(plain):
        return f"{directory}/**"
    if any(fnmatchcase(name, glob) for glob in HARMLESS_GLOBS):
        return ""
    globs = SECRET_FILE_GLOBS if name.endswith(SOURCE_SUFFIXES) else SECRET_FILE_GLOBS + SECRET_WORD_GLOBS
    return next((glob for glob in globs if fnmatchcase(name, glob)), "") or next(
        (glob for glob in SECRET_PATH_GLOBS if fnmatchcase(path, glob)), ""
    )


def private_directory(parts: Sequence[str]) -> str:
    """The directory of secrets that a path leads into, empty when there is none."""
    return next((part for part in map(_normalize_name, parts) if part in SECRET_DIRECTORIES), "")


def _normalize_name(name: str) -> str:
    """A name as file systems that fold case or ignore characters without width may compare it."""
    if name.isascii():
        return name.lower().rstrip(" .") or name
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(each for each in folded if unicodedata.category(each) != "Cf").rstrip(" .")
