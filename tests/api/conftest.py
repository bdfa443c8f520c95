"""The C interface of the library under test."""

from __future__ import annotations

import os

import pytest
from c_api import CApi


@pytest.fixture(scope="session")
def api() -> CApi:
    return CApi(os.path.abspath(os.environ["MARLIN_MOE_LIBRARY"]), os.environ["MARLIN_MOE_HEADER"])
