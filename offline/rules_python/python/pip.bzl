"""What WORKSPACE calls in the place of the module extension `pip`."""

load("//private:pip_hub.bzl", "pip_hub")

def pip_parse(name, requirements_lock, python_version = "3.12", **_kwargs):
    """Makes a repository of the packages that a lock file pins.

    Args:
        name: of the repository
        requirements_lock: label of the lock file
        python_version: the version that the lock file is for
        **_kwargs: choice of an interpreter; ignored, because there is only the machine's
    """
    pip_hub(name = name, hub_name = name, locks = {python_version: requirements_lock})
