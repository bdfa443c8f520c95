"""What WORKSPACE calls in the place of the module extension."""

load("//cuda/private:toolkit.bzl", "cuda_toolkit")

def rules_cuda_dependencies():
    """Nothing: the workspace that uses the stand-in has what it loads."""

# buildifier: disable=unnamed-macro
def rules_cuda_toolchains(name = "cuda", toolkit_path = None, register_toolchains = False):
    """Makes the repository of the machine's CUDA toolkit.

    Args:
        name: of the repository; the rules look for `cuda`
        toolkit_path: root of the toolkit; None: CUDA_PATH, PATH or /usr/local/cuda
        register_toolchains: whether to register its nvcc
    """
    cuda_toolkit(name = name, toolkit_path = toolkit_path)
    if register_toolchains:
        native.register_toolchains("@{}//toolchain:nvcc-local-toolchain".format(name))
