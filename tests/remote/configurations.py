"""What nginx and BuildGrid are told: Bazel's HTTP cache, and a remote executor with its cache."""

from __future__ import annotations

import string
from pathlib import Path

# A blob is written elsewhere first, so that a reader or a killed server never sees half of it.
_NGINX = string.Template("""\
daemon off;
pid $folder/nginx.pid;
error_log $folder/error.log;
$user
events {}
http {
  log_format cache '$$request_method $$uri $$status $$request_length $$bytes_sent';
  access_log $folder/access.log cache;
  client_body_temp_path $folder/partial;
  proxy_temp_path $folder/unused;
  fastcgi_temp_path $folder/unused;
  scgi_temp_path $folder/unused;
  uwsgi_temp_path $folder/unused;
  client_max_body_size 0;
  server {
    listen $address;
    root $folder/cache;
    location / {
      dav_methods PUT;
      create_full_put_path on;
    }
  }
}
""")

# Every upload and every waiting client holds a thread. Jobs are assigned by an assigner alone.
_BUILDGRID = string.Template("""\
server:
  - !channel
    address: "$address"
    insecure-mode: true
thread-pool-size: 400
authorization:
  method: none
monitoring:
  enabled: false
connections:
  - !sql-connection &sql
    connection-string: $database
    pool-size: 20
    max-overflow: 20
storages:
  - !disk-storage &storage
    path: $folder
caches:
  - !lru-action-cache &action-cache
    storage: *storage
    max-cached-refs: 100000
    allow-updates: true
    cache-failed-actions: false
schedulers:
  - !sql-scheduler &scheduler
    sql: *sql
    storage: *storage
    action-cache: *action-cache
    assigners:
      - !priority-age-assigner
        count: 1
        interval: 0.1
instances:
  - name: ""
    services:
      - !action-cache
        cache: *action-cache
      - !execution
        scheduler: *scheduler
      - !cas
        storage: *storage
      - !bytestream
        storage: *storage
""")


def nginx(folder: Path, address: str, user: str) -> str:
    """The configuration of an HTTP cache.

    Args:
      folder: takes its files, those of the cache in `cache`.
      address: host and port to listen on.
      user: who root's workers run as; empty if root does not start it.
    """
    # Another user than the one who starts it might not enter the folder.
    directive = f"user {user};" if user else ""
    return _NGINX.substitute(folder=folder, address=address, user=directive)


def buildgrid(folder: Path, address: str, database: str) -> str:
    """The configuration of a remote executor.

    Args:
      folder: takes its blobs.
      address: host and port to listen on.
      database: URL of the PostgreSQL database, with the driver psycopg2, which its notifier needs.
    """
    return _BUILDGRID.substitute(folder=folder, address=address, database=database)
