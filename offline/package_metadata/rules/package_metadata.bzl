"""The rule package_metadata."""

PackageAttributeInfo = provider(
    doc = "One thing that is known of a package.",
    fields = {
        "attributes": "File: what is known, as JSON.",
        "kind": "String: what kind of thing that is.",
    },
)

def _package_metadata_impl(ctx):
    attributes = [target[PackageAttributeInfo] for target in ctx.attr.attributes]
    out = ctx.actions.declare_file(ctx.label.name + ".package-metadata.json")
    ctx.actions.write(out, json.encode({
        "attributes": {attribute.kind: attribute.attributes.path for attribute in attributes},
        "label": str(ctx.label),
        "purl": ctx.attr.purl,
    }))
    return [DefaultInfo(files = depset([out]))]

_package_metadata = rule(
    doc = "What is known of a package.",
    implementation = _package_metadata_impl,
    attrs = {
        "attributes": attr.label_list(
            doc = "Things that are known of it, such as its license.",
            providers = [PackageAttributeInfo],
        ),
        "purl": attr.string(doc = "Package URL.", mandatory = True),
    },
)

def package_metadata(*, name, purl, attributes = [], visibility = None):
    """Says what is known of a package.

    Args:
        name: of the target
        purl: package URL
        attributes: targets of things that are known, such as license()
        visibility: of the target
    """
    _package_metadata(
        name = name,
        # Not of itself, where REPO.bazel makes this the metadata of all targets.
        applicable_licenses = [],
        attributes = attributes,
        purl = purl,
        visibility = visibility,
    )
