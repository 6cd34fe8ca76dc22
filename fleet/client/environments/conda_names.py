"""What packages are called by conda and by pip, where the two differ. A name that is not here is the same for both."""

from typing import Final

# conda's name -> pip's.
RENAMED: Final = {
    "dask-core": "dask",
    "faiss": "faiss-cpu",
    "importlib_metadata": "importlib-metadata",
    "keras-gpu": "keras",
    "matplotlib-base": "matplotlib",
    "msgpack-python": "msgpack",
    "onnxruntime-cpp": "onnxruntime",
    "opencv": "opencv-python-headless",
    "py-opencv": "opencv-python-headless",
    "py-xgboost": "xgboost",
    "py-xgboost-cpu": "xgboost",
    "pytables": "tables",
    "python-flatbuffers": "flatbuffers",
    "pytorch": "torch",
    "pytorch-cpu": "torch",
    "pytorch-gpu": "torch",
    "ruamel_yaml": "ruamel.yaml",
    "tensorflow-base": "tensorflow",
    "tensorflow-eigen": "tensorflow",
    "tensorflow-mkl": "tensorflow",
    "torchvision-cpu": "torchvision",
    "typing_extensions": "typing-extensions",
}

# Libraries that come inside the wheels which need them, or with the image's Python.
INCLUDED: Final = frozenset(
    {
        *("_libgcc_mutex", "_openmp_mutex", "blas", "bzip2", "ca-certificates", "expat", "intel-openmp"),
        *("ld_impl_linux-64", "libblas", "libcblas", "libffi", "libgcc", "libgcc-ng", "libgfortran", "libgfortran-ng"),
        *("libgomp", "liblapack", "libopenblas", "libsqlite", "libstdcxx", "libstdcxx-ng", "libuuid", "libzlib"),
        *("llvm-openmp", "mkl", "mkl-service", "mkl_fft", "mkl_random", "ncurses", "nomkl", "numpy-base"),
        *("openblas", "openssl", "pip", "python_abi", "readline", "sqlite", "tk", "xz", "zlib"),
    }
)  # fmt: skip

# Programs and libraries that pip does not have, or under whose name it has something else.
CHANNELS_ONLY: Final = frozenset(
    {
        *("boost", "c-compiler", "cmake", "compilers", "cuda", "cuda-toolkit", "cudatoolkit", "cudnn", "curl"),
        *("cxx-compiler", "eigen", "ffmpeg", "fftw", "gcc", "gdal", "geos", "git", "graphviz", "gxx", "hdf5"),
        *("java-jdk", "make", "mpich", "nccl", "nodejs", "openjdk", "openmpi", "perl", "poppler", "proj", "swig"),
        *("tesseract", "unixodbc", "wget"),
    }
)  # fmt: skip
# R's packages, compilers, and C libraries that no list could name.
CHANNELS_ONLY_PREFIXES: Final = ("r-", "gcc_", "gxx_", "lib", "bioconductor-", "xorg-", "cuda-")

# Python packages, for all that.
NOT_CHANNELS_ONLY: Final = frozenset({"libclang", "libcst", "librosa", "libsass", "libsvm-official"})

# Channels whose packages are the same projects as pip's of that name.
PUBLIC_CHANNELS: Final = frozenset({"anaconda", "conda-forge", "defaults", "intel", "main", "pytorch", "pkgs/main"})

# Ours stand in their place: modules/scoring/scripts/shims.
LEFT_OUT: Final = frozenset(
    {
        "azureml-contrib-functions",
        "azureml-contrib-services",
        "azureml-core",
        "azureml-defaults",
        "azureml-inference-server-http",
    }
)
# Those of them that bring inference-schema along, which scripts then import without naming it.
WITH_SCHEMA: Final = frozenset({"azureml-defaults", "azureml-inference-server-http"})
