"""What WORKSPACE calls in the place of the module extension `pip`."""

load("//private:pip_hub.bzl", "pip_hub")

def pip_parse(name, requirements_lock, python_version = "3.12", **_kwargs):
    """Makes a repository of the packages that a lock file pins.

    Args:
        name: of the repository
        requirements_lock: label of the lock file
        python_version: that it was made for
        **_kwargs: what chooses among interpreters: here the machine's is the only one
    """
    pip_hub(name = name, hub_name = name, locks = {python_version: requirements_lock})
