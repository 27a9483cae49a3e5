"""Getting the images to where a cluster finds them."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from dev.cluster import Cluster
from dev.cluster.report import Report
from dev.images.build import Image, build, cache, planned
from dev.images.tools import Tools

# Where a user's own cluster pulls from; also where `ensure` pushes to.
PREFIX_VARIABLE: Final = "PILOTHOUSE_IMAGE_PREFIX"
_PREFIX: Final = "docker.io/pilothouse"


def ensure(
    cluster: Cluster, *, only: str | None = None, tag: str | None = None, report: Report | None = None
) -> dict[str, str]:
    """Make the images of this checkout available to a cluster; returns the reference of each by its name.

    An embedded cluster gets what has changed since it last got it. For a cluster that KUBECONFIG names, the images
    are pushed to the registry path in PILOTHOUSE_IMAGE_PREFIX. Without that variable nothing is built or pushed:
    `report` says which images the cluster must be able to pull.

    Args:
        cluster: one that runs, with a node.
        only: the name of one; operator and runtime unless given.
        tag: in place of the project's version. The same content may have several.
        report: where progress is told.

    Raises:
        ImageError: this machine cannot build, a build fails, or the registry refuses.
        ClusterError: a Debian package cannot be installed, or the node refuses the image.
        ValueError: there is no image called `only`.
    """
    report = report or Report()
    prefix = os.environ.get(PREFIX_VARIABLE)
    if cluster.embedded:
        return {image.name: _load(cluster, image, tag, report) for image in build(only, report=report)}
    if prefix:
        return {
            image.name: _push(image, image.reference(prefix, tag), report)
            for image in build(only, report=report)
        }
    references = {image.name: image.reference(_PREFIX, tag) for image in planned(only)}
    report.say(
        f"nothing is built for the cluster that {cluster.kubeconfig} names, which must be able to pull "
        f"{' and '.join(references.values())}. To have them built and pushed to a registry that it pulls from, set "
        f"{PREFIX_VARIABLE}=registry.example.com/path; docs/images.md shows other ways"
    )
    return references


def reference(cluster: Cluster, name: str) -> str:
    """Return what `ensure` would call an image of this checkout for the cluster, without building it.

    Raises:
        ValueError: there is no image called `name`.
    """
    (image,) = planned(name)
    if cluster.embedded:
        return _in_node(image)
    return image.reference(os.environ.get(PREFIX_VARIABLE) or _PREFIX)


def _in_node(image: Image, tag: str | None = None) -> str:
    # A tag of its own for each content, so that whatever runs the image is restarted when the content has changed.
    return image.reference(_PREFIX, tag or f"{image.version}-{image.key[:10]}")


def _load(cluster: Cluster, image: Image, tag: str | None, report: Report) -> str:
    reference = _in_node(image, tag)
    listed = [line.split() for line in cluster.ctr("images", "list", f"name=={reference}").splitlines()[1:]]
    if [reference, image.layout.manifest_digest(image.ref)] in [[line[0], line[2]] for line in listed]:
        return reference
    # What the node has of an earlier image, torch above all, is not sent again.
    known = cluster.ctr("content", "list", "--quiet").split()
    with TemporaryDirectory(dir=cache()) as folder:
        archive = Path(folder) / f"{image.name}.tar"
        image.layout.write_archive(image.ref, archive, reference, without=known)
        cluster.import_image(archive)
    report.say(f"{reference} is in the node")
    return reference


def _push(image: Image, reference: str, report: Report) -> str:
    report.say(f"pushing {reference}")
    source = f"oci:{image.layout.root}:{image.ref}"
    Tools(cache() / "build.log").run("skopeo", "copy", "--quiet", source, f"docker://{reference}")
    return reference
