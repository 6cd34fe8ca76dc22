"""What to write instead, where an old script fails on current packages: for the error's text, a sentence."""

import re

_REQUIRE = "in the image's requirements"
_ADVICE: tuple[tuple[str, str], ...] = (
    (r"sklearn\.externals", "write `import joblib` instead of `from sklearn.externals import joblib`"),
    (r"sklearn\.(cross_validation|grid_search|learning_curve)", "these are in `sklearn.model_selection` now"),
    (r"cannot import name 'Imputer'", "write `from sklearn.impute import SimpleImputer`"),
    (
        r"No module named 'sklearn\.\w+\.",
        f"the pickle was made by another scikit-learn: name its version {_REQUIRE}, or save the model again",
    ),
    (r"numpy' has no attribute '(bool|int|float|complex|object|str)'", r"write `\1` instead of `np.\1`"),
    (r"numpy' has no attribute|removed in the NumPy 2", f"write it as NumPy 2 names it, or put `numpy<2` {_REQUIRE}"),
    (r"numpy\.dtype size changed|compiled using NumPy 1", f"put `numpy<2` or a newer package {_REQUIRE}"),
    (r"allow_pickle=False", "the file holds pickled objects: write `np.load(path, allow_pickle=True)`"),
    (r"'DataFrame' object has no attribute 'append'", "write `pd.concat([frame, rows])`"),
    (r"'DataFrame' object has no attribute 'ix'", "write `.loc` or `.iloc`"),
    (r"has no attribute 'as_matrix'", "write `.to_numpy()`"),
    (r"tensorflow' has no attribute '(\w+)'", r"TensorFlow 2 has it as `tf.compat.v1.\1`"),
    (r"[Ww]eights_only", "write `torch.load(path, weights_only=False)` for a file that holds whole objects"),
    (r"load\(\) missing 1 required positional argument: 'Loader'", "write `yaml.safe_load(...)`"),
    (r"'collections' has no attribute|cannot import name '\w+' from 'collections'", "it is in `collections.abc`"),
    (r"'time' has no attribute 'clock'", "write `time.perf_counter()`"),
    (r"libGL\.so|libgthread", f"put `opencv-python-headless` instead of `opencv-python` {_REQUIRE}"),
    (
        r"azureml",
        "a module has no Azure ML workspace: there are azureml.core.Model and azureml.contrib.services, nothing else",
    ),
)
# Import names that are not the name of their package.
_PACKAGES = {
    "cv2": "opencv-python-headless", "PIL": "pillow", "sklearn": "scikit-learn", "skimage": "scikit-image",
    "yaml": "pyyaml",
}  # fmt: skip


def advice(error: BaseException, said: str) -> str:
    """A sentence for the script's author, or nothing; ``said`` is what the error says."""
    for pattern, sentence in _ADVICE:
        if found := re.search(pattern, said):
            return found.expand(sentence)
    if isinstance(error, ModuleNotFoundError) and error.name:
        name = error.name.partition(".")[0]
        return f"add the package {_PACKAGES.get(name, name)} to the image's requirements"
    return ""
