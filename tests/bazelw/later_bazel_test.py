"""What later Bazels demand and Bazel 7 can be asked to demand already: analysis holds it."""

import os
import subprocess
from pathlib import Path

import pytest
from bazel_command import own_server
from workspace import find_root

ROOT = find_root(Path(os.environ["TOP_LEVEL_FILE"]))

# Flags of Bazel 7.7 that later versions set or mean to set. Left out are those that Bazel 7's own
# rules or rules_cuda 0.3.0 do not pass.
FLAGS = [
    "--incompatible_auto_exec_groups",
    "--incompatible_check_testonly_for_output_files",
    "--incompatible_config_setting_private_default_visibility",
    "--incompatible_default_to_explicit_init_py",
    "--incompatible_disable_native_android_rules",
    "--incompatible_disable_native_repo_rules",
    "--incompatible_disable_starlark_host_transitions",
    "--incompatible_disable_target_provider_fields",
    "--incompatible_disallow_empty_glob",
    "--incompatible_modify_execution_info_additive",
    "--incompatible_no_implicit_watch_label",
    "--incompatible_struct_has_no_methods",
    "--incompatible_top_level_aspects_require_providers",
    "--incompatible_use_plus_in_repo_names",
]


# Not //...: its tests' tools would be downloaded once more.
@pytest.mark.parametrize(
    ("folder", "targets"),
    [
        (".", ["//:all", "//built_for/...", "//csrc/...", "//tests/starlark/..."]),
        ("e2e/smoke", ["//..."]),
    ],
)
def test_analysis_holds_what_later_bazels_demand(folder, targets):
    with own_server(ROOT, ROOT / folder) as bazel:
        command = [*bazel, "build", "--nobuild", *FLAGS, *targets]
        result = subprocess.run(
            command, cwd=ROOT / folder, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr
