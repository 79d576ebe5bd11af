"""Loads the reference implementations from checkouts given on the command line.

Nothing of them is kept in this repository. What has to be changed for them to
run on a CPU in float64 is done here, from outside, and listed in README.md.
"""

import contextlib
import importlib.util
import os
import subprocess
import sys
import types


def commit_of(checkout):
    """Commit of a checkout, or "unknown" when it is not a git work tree."""
    head = os.path.join(checkout, "COMMIT")
    if os.path.isfile(head):
        with open(head) as f:
            return f.read().strip()
    if os.path.isdir(os.path.join(checkout, ".git")):
        done = subprocess.run(
            ["git", "-C", checkout, "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return done.stdout.strip()
    return "unknown"


def _load(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _Unused(types.ModuleType):
    """A module whose every name is an empty stand-in."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return object


@contextlib.contextmanager
def _stub_sklearn(*more):
    """The training scripts import scikit-learn (and ``more``) at the top; the models do not use it."""
    stubs = {name: _Unused(name) for name in ("sklearn", "sklearn.preprocessing", "sklearn.metrics", *more)}
    before = {name: sys.modules.get(name) for name in stubs}
    sys.modules.update(stubs)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _cpu_only():
    """Some forward passes call .cuda() on what they allocate; make that a no-op."""
    import torch

    torch.Tensor.cuda = lambda self, *args, **kwargs: self


def eeg_vp_models(eeg2video):
    """EEG-VP/models.py: shallownet, glfnet and the other classifiers."""
    return _load(os.path.join(eeg2video, "EEG-VP", "models.py"), "ref_eeg_vp_models")


def fork_encoders(fork):
    """Gaspard_model/models/encoders.py of the fork: ShallowNetEncoder, MLPEncoder, GLMNetEncoder."""
    return _load(os.path.join(fork, "Gaspard_model", "models", "encoders.py"), "ref_fork_encoders")


def fork_glmnet_cv(fork):
    """Gaspard_model/train_glmnet_cv.py of the fork: its GLMNet."""
    folder = os.path.join(fork, "Gaspard_model")
    with _stub_sklearn("tqdm", "wandb"), _first_on_path(folder):
        return _load(os.path.join(folder, "train_glmnet_cv.py"), "ref_fork_glmnet_cv")


def fork_glmnet(fork):
    """EEG2Video/GLMNet/modules/utils_glmnet.py of the fork's later branch: its GLMNet."""
    path = os.path.join(fork, "EEG2Video", "GLMNet", "modules", "utils_glmnet.py")
    with _stub_sklearn("EEG_preprocessing", "EEG_preprocessing.DE_PSD"), _first_on_path(fork):
        return _load(path, "ref_fork_glmnet")


@contextlib.contextmanager
def _first_on_path(folder):
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def seq2seq(eeg2video):
    """The autoregressive transformer: myTransformer."""
    _cpu_only()
    path = os.path.join(eeg2video, "EEG2Video", "EEG2Video_New", "Seq2Seq", "my_autoregressive_transformer.py")
    with _stub_sklearn():
        return _load(path, "ref_seq2seq")


def semantic(eeg2video):
    """The semantic predictor; its class is called CLIP."""
    path = os.path.join(eeg2video, "EEG2Video", "EEG2Video_New", "Semantic", "eeg_text.py")
    with _stub_sklearn():
        return _load(path, "ref_semantic")


def de_psd(eeg2video):
    """The function DE_PSD(data, fre, time_window)."""
    return _load(os.path.join(eeg2video, "EEG_preprocessing", "DE_PSD.py"), "ref_de_psd").DE_PSD


class HalfSecond:
    """0.5 s as the time window of DE_PSD.

    DE_PSD passes ``time_window * fre`` to range(), so a float does not work;
    this gives the integer product.
    """

    def __mul__(self, fre):
        return fre // 2

    __rmul__ = __mul__


def use_diffusers_011(directory):
    """Puts diffusers 0.11.1 first on the path; call before any other diffusers import.

    It would look for an old transformers, so transformers is hidden.
    """
    if "diffusers" in sys.modules:
        raise RuntimeError("another diffusers is loaded already")
    sys.path.insert(0, directory)
    sys.modules["transformers"] = None
    import diffusers

    if diffusers.__version__ != "0.11.1":
        raise RuntimeError(f"{directory} holds diffusers {diffusers.__version__}, wanted 0.11.1")
    return diffusers


def unet3d_class(tune_a_video):
    """Tune-A-Video's UNet3DConditionModel; needs use_diffusers_011 first."""
    sys.path.insert(0, tune_a_video)
    from tuneavideo.models.unet import UNet3DConditionModel

    return UNet3DConditionModel
