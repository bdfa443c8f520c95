"""Tests of the servers' configurations: what is filled in, and what the build depends on."""

from __future__ import annotations

import re
from pathlib import Path

import configurations
import pytest
import yaml


class Tagged(yaml.SafeLoader):
    """Reads BuildGrid's tags as a mapping with the tag under the key `tag`."""


Tagged.add_multi_constructor(
    "!", lambda loader, tag, node: {"tag": tag, **loader.construct_mapping(node, deep=True)}
)
FOLDER = Path("/srv/cache")
DATABASE = "postgresql+psycopg2://buildgrid@127.0.0.1:5433/postgres"


@pytest.fixture(scope="module")
def buildgrid():
    return yaml.load(configurations.buildgrid(FOLDER, "127.0.0.1:50051", DATABASE), Tagged)


def test_buildgrid_listens_and_stores_where_it_is_told(buildgrid):
    assert [channel["address"] for channel in buildgrid["server"]] == ["127.0.0.1:50051"]
    assert buildgrid["storages"][0]["path"] == str(FOLDER)
    assert buildgrid["connections"][0]["connection-string"] == DATABASE


def test_buildgrid_assigns_jobs(buildgrid):
    (assigner,) = buildgrid["schedulers"][0]["assigners"]
    assert assigner["tag"] == "priority-age-assigner"


def test_buildgrid_offers_what_bazel_asks_for(buildgrid):
    (instance,) = buildgrid["instances"]
    offered = {service["tag"] for service in instance["services"]}
    assert instance["name"] == ""
    assert offered == {"action-cache", "execution", "cas", "bytestream"}


def test_buildgrid_does_not_cache_failures(buildgrid):
    assert buildgrid["caches"][0]["cache-failed-actions"] is False


def test_nginx_listens_and_stores_where_it_is_told():
    text = configurations.nginx(FOLDER, "127.0.0.1:8080", "")
    assert "listen 127.0.0.1:8080;" in text
    assert f"root {FOLDER}/cache;" in text
    assert not re.search(r"^user ", text, re.MULTILINE)


def test_nginx_takes_puts_of_any_size_whole():
    text = configurations.nginx(FOLDER, "127.0.0.1:8080", "")
    for directive in ("dav_methods PUT;", "create_full_put_path on;", "client_max_body_size 0;"):
        assert directive in text
    assert f"client_body_temp_path {FOLDER}/" in text  # the same file system: renamed, not copied


def test_nginx_logs_with_its_own_variables():
    text = configurations.nginx(FOLDER, "127.0.0.1:8080", "")
    assert "'$request_method $uri $status $request_length $bytes_sent'" in text


def test_nginx_of_root_keeps_its_user():
    assert "user root;" in configurations.nginx(FOLDER, "127.0.0.1:8080", "root")
