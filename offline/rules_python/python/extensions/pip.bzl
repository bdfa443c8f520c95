"""The module extension `pip`: repositories of packages that a lock file pins by hash."""

load("//private:pip_hub.bzl", "pip_hub")

def _pip_impl(module_ctx):
    hubs = {}
    for module in module_ctx.modules:
        for tag in module.tags.parse:
            owner, locks = hubs.setdefault(tag.hub_name, (module.name, {}))
            if owner != module.name:
                fail("pip hub {} is declared by two modules, {} and {}: a hub belongs to one.".format(
                    tag.hub_name,
                    owner,
                    module.name,
                ))
            locks[tag.python_version] = str(tag.requirements_lock)
    for name, (_, locks) in hubs.items():
        pip_hub(name = name, hub_name = name, locks = locks)

pip = module_extension(
    doc = "One repository for each hub, filled by the machine's pip.",
    implementation = _pip_impl,
    tag_classes = {
        "parse": tag_class(attrs = {
            "hub_name": attr.string(mandatory = True),
            "python_version": attr.string(mandatory = True),
            "requirements_lock": attr.label(mandatory = True),
        }),
    },
)
