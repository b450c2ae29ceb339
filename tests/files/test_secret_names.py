from __future__ import annotations

import pytest

from mcp_server_claude.files.secret_names import matching_pattern


@pytest.mark.parametrize(
    "path",
    [
        *(
            ".npmrc~",
            ".netrc.bak",
            ".pypirc.old",
            "x.p12.bak",
            "terraform.tfvars.bak.orig",
            "id_rsa.backup",
            "Secrets.YAML~",
        ),
        *("token.json", "token.txt", "token.pickle", "google_oauth_token.json", "slack_token.txt", "stripe_key.txt"),
        *(
            "gcp-key.json",
            "sa-key.json",
            "openai_key",
            "key.properties",
            "appsettings.Production.json",
            "prod.env.json",
        ),
        *("env.production", "env.local", "bitwarden_export.json", "Bitwarden.json", "1password-export.csv"),
        *("lastpass_export.csv", "cookies.txt", "login.keychain", "my.keychain-db", "wallet.json", "seed.txt"),
        *("ansible-vault.yml", "vault.yml", "keystore/UTC--2026-01-01", ".netlify/config.json", ".cloudflared/1.json"),
        *(".config/openai.token", ".config/anthropic/credentials", ".gsutil/credstore", ".idea/dataSources.local.xml"),
    ],
)
def test_names_of_keys_tokens_exports_and_their_backups_look_secret(path: str) -> None:
    assert matching_pattern(path.split("/"), ())


@pytest.mark.parametrize(
    "path",
    [
        *(
            "tokens.json",
            "tokenizer.json",
            "token.py",
            "keyboard.json",
            "monkey.txt",
            "public_key.txt",
            "deploy-public-key",
        ),
        *("env.d.ts", "environment.json", "vault.py", "key.md", "seeds.txt", "cookies.md", "notes.txt.bak", "README~"),
        *("primary_keys.sql", "appsettings.json", "config.old"),
    ],
)
def test_names_that_speak_of_keys_and_hold_none_are_read(path: str) -> None:
    assert not matching_pattern(path.split("/"), ())


def test_a_backup_is_allowed_by_its_own_name_only() -> None:
    assert not matching_pattern((".npmrc~",), (".npmrc~",))
    assert matching_pattern((".npmrc~",), (".npmrc",))
