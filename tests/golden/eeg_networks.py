"""The EEG networks in PyTorch, at any number of channels and samples.

Written from their layers and named as the originals' state dicts are. The originals fit 200
samples only; ``compare`` in this file holds the two together there, value for value.
"""

import math

import torch
from torch import nn

import reference
import weights

OCCIPITAL = list(range(50, 62))


def left(n_times, *stages):
    """Samples left after stages of (kernel, step)."""
    for kernel, step in stages:
        n_times = (n_times - kernel) // step + 1
    return n_times


class WithOut(nn.Module):
    """``net``, flattened, then ``out``."""

    def __init__(self, net, width, n_outputs):
        super().__init__()
        self.net = nn.Sequential(*net)
        self.out = nn.Linear(width, n_outputs)

    def forward(self, eeg):
        return self.out(self.net(eeg).flatten(1))


def ShallowNet(n_outputs, n_chans=62, n_times=200, drop_prob=0.5, **_):
    net = [
        nn.Conv2d(1, 40, (1, 25)),
        nn.Conv2d(40, 40, (n_chans, 1)),
        nn.BatchNorm2d(40),
        nn.ELU(),
        nn.AvgPool2d((1, 51), (1, 5)),
        nn.Dropout(drop_prob),
    ]
    return WithOut(net, 40 * left(n_times, (25, 1), (51, 5)), n_outputs)


def DeepNet(n_outputs, n_chans=62, n_times=200, drop_prob=0.5, **_):
    net, before = [nn.Conv2d(1, 25, (1, 10)), nn.Conv2d(25, 25, (n_chans, 1))], 25
    for filters in (25, 50, 100, 200):
        if filters > 25:
            net.append(nn.Conv2d(before, filters, (1, 10)))
        net += [nn.BatchNorm2d(filters), nn.ELU(), nn.MaxPool2d((1, 2), (1, 2)), nn.Dropout(drop_prob)]
        before = filters
    return WithOut(net, 200 * left(n_times, *[(10, 1), (2, 2)] * 4), n_outputs)


def EEGNet(n_outputs, n_chans=62, n_times=200, drop_prob=0.5, **_):
    net = [
        nn.Conv2d(1, 8, (1, 64)),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 16, (n_chans, 1)),
        nn.BatchNorm2d(16),
        nn.ELU(),
        nn.AvgPool2d((1, 2), (1, 2)),
        nn.Dropout(drop_prob),
        nn.Conv2d(16, 16, (1, 16)),
        nn.BatchNorm2d(16),
        nn.ELU(),
        nn.AvgPool2d((1, 2), (1, 2)),
        nn.Dropout2d(drop_prob),
    ]
    return WithOut(net, 16 * left(n_times, (64, 1), (2, 2), (16, 1), (2, 2)), n_outputs)


def TSConv(n_outputs, n_chans=62, n_times=200, drop_prob=0.5, **_):
    net = [
        nn.Conv2d(1, 40, (1, 25)),
        nn.AvgPool2d((1, 51), (1, 5)),
        nn.BatchNorm2d(40),
        nn.ELU(),
        nn.Conv2d(40, 40, (n_chans, 1)),
        nn.BatchNorm2d(40),
        nn.ELU(),
        nn.Dropout(drop_prob),
    ]
    return WithOut(net, 40 * left(n_times, (25, 1), (51, 5)), n_outputs)


class Attention(nn.Module):
    def __init__(self, width, heads, drop_prob, scale):
        super().__init__()
        self.heads, self.scale = heads, scale
        self.keys, self.queries = nn.Linear(width, width), nn.Linear(width, width)
        self.values, self.projection = nn.Linear(width, width), nn.Linear(width, width)
        self.drop = nn.Dropout(drop_prob)

    def forward(self, x):
        batch, tokens, width = x.shape

        def split(y):
            return y.reshape(batch, tokens, self.heads, -1).transpose(1, 2)

        q, k, v = split(self.queries(x)), split(self.keys(x)), split(self.values(x))
        seen = self.drop(torch.softmax(q @ k.transpose(2, 3) * self.scale, -1)) @ v
        return self.projection(seen.transpose(1, 2).reshape(batch, tokens, width))


class Added(nn.Module):
    def __init__(self, *fn):
        super().__init__()
        self.fn = nn.Sequential(*fn)

    def forward(self, x):
        return x + self.fn(x)


class Patches(nn.Module):
    def __init__(self, n_chans, width, drop_prob):
        super().__init__()
        self.shallownet = nn.Sequential(
            nn.Conv2d(1, 40, (1, 25)),
            nn.Conv2d(40, 40, (n_chans, 1)),
            nn.BatchNorm2d(40),
            nn.ELU(),
            nn.AvgPool2d((1, 75), (1, 15)),
            nn.Dropout(drop_prob),
        )
        self.projection = nn.Sequential(nn.Conv2d(40, width, 1))

    def forward(self, eeg):
        return self.projection(self.shallownet(eeg)).flatten(2).transpose(1, 2)


class Heads(nn.Module):
    def __init__(self, width, tokens, n_outputs):
        super().__init__()
        # Never read: only its names count.
        self.clshead = nn.Sequential(nn.Identity(), nn.LayerNorm(width), nn.Linear(width, n_outputs))
        self.fc = nn.Sequential(nn.Linear(tokens * width, n_outputs))

    def forward(self, x):
        return self.fc(x.flatten(1))


def Conformer(
    n_outputs,
    n_chans=62,
    n_times=200,
    emb_dim=40,
    n_heads=10,
    n_layers=3,
    attention_scale="emb_dim",
    drop_prob=0.5,
    **_,
):
    scale = 1 / math.sqrt(emb_dim if attention_scale == "emb_dim" else emb_dim // n_heads)

    def layer():
        attention = Attention(emb_dim, n_heads, drop_prob, scale)
        forward = nn.Sequential(
            nn.Linear(emb_dim, 4 * emb_dim), nn.GELU(), nn.Dropout(drop_prob), nn.Linear(4 * emb_dim, emb_dim)
        )
        return nn.Sequential(
            Added(nn.LayerNorm(emb_dim), attention, nn.Dropout(drop_prob)),
            Added(nn.LayerNorm(emb_dim), forward, nn.Dropout(drop_prob)),
        )

    tokens = left(n_times, (25, 1), (75, 15))
    return nn.Sequential(
        Patches(n_chans, emb_dim, drop_prob),
        nn.Sequential(*[layer() for _ in range(n_layers)]),
        Heads(emb_dim, tokens, n_outputs),
    )


class MlpNet(nn.Module):
    def __init__(self, n_features, n_outputs):
        super().__init__()
        self.net = nn.Sequential(
            nn.Flatten(),
            nn.Linear(n_features, 512),
            nn.GELU(),
            nn.Linear(512, 256),
            nn.GELU(),
            nn.Linear(256, n_outputs),
        )

    def forward(self, eeg):
        return self.net(eeg)


def MLP(n_outputs, n_chans=62, n_features=310, **_):
    return MlpNet(n_features, n_outputs)


class TwoBranches(nn.Module):
    """All channels and the local ones, concatenated."""

    def __init__(self, globalnet, localnet, emb_dim, n_outputs, local_chans, axis):
        super().__init__()
        self.globalnet, self.occipital_localnet = globalnet, localnet
        self.out = nn.Linear(2 * emb_dim, n_outputs)
        self.local_chans, self.axis = local_chans, axis

    def forward(self, eeg):
        local = eeg.index_select(self.axis, torch.tensor(self.local_chans))
        return self.out(torch.cat([self.globalnet(eeg), self.occipital_localnet(local)], 1))


def GLMNet(n_outputs, n_chans=62, n_times=200, emb_dim=256, local_chans=OCCIPITAL, drop_prob=0.5, **_):
    branch = [ShallowNet(emb_dim, c, n_times, drop_prob) for c in (n_chans, len(local_chans))]
    return TwoBranches(*branch, emb_dim, n_outputs, local_chans, 2)


def GLMNetMLP(n_outputs, n_chans=62, n_features=310, emb_dim=64, local_chans=OCCIPITAL, **_):
    branch = [MlpNet(n, emb_dim) for n in (n_features, len(local_chans) * n_features // n_chans)]
    return TwoBranches(*branch, emb_dim, n_outputs, local_chans, 1)


class ShallowNetEncoder(nn.Module):
    def __init__(self, n_chans=62, n_times=200, drop_prob=0.6, **_):
        super().__init__()
        self.width = 64 * left(n_times, (5, 2))
        self.net = nn.Sequential(
            nn.Conv2d(1, 32, (1, 13), padding=(0, 6)),
            nn.BatchNorm2d(32),
            nn.ELU(),
            nn.Conv2d(32, 64, (n_chans, 1)),
            nn.BatchNorm2d(64),
            nn.ELU(),
            nn.AvgPool2d((1, 5), (1, 2)),
            nn.Dropout(drop_prob),
        )

    def forward(self, eeg):
        return self.net(eeg.unsqueeze(1)).flatten(1)


def trunk(n_features, drop_prob):
    layers, before = [], n_features
    for width in (512, 256, 128):
        layers += [nn.Linear(before, width), nn.BatchNorm1d(width), nn.ReLU()]
        layers += [nn.Dropout(drop_prob)] if width > 128 else []
        before = width
    return layers


class MLPEncoder(nn.Module):
    def __init__(self, n_outputs, n_features=310, drop_prob=0.3, **_):
        super().__init__()
        self.net = nn.Sequential(*trunk(n_features, drop_prob), nn.Linear(128, n_outputs))

    def forward(self, eeg):
        return self.net(eeg)


class MLPEncoder_feat(nn.Module):
    def __init__(self, n_features=310, drop_prob=0.3, **_):
        super().__init__()
        self.feature_extractor = nn.Sequential(*trunk(n_features, drop_prob))

    def forward(self, eeg):
        return self.feature_extractor(eeg.flatten(1))


class GLMNetEncoder(nn.Module):
    def __init__(
        self,
        n_chans=62,
        n_times=200,
        n_features=310,
        input_type="frequency",
        local_chans=None,
        emb_dim=2048,
        n_tokens=77,
        token_dim=768,
        **_,
    ):
        super().__init__()
        self.input_type, self.n_chans, self.local_chans = input_type, n_chans, local_chans
        n_local = len(local_chans) if local_chans else n_chans
        if input_type == "frequency":

            def way(n):
                return nn.Sequential(nn.Linear(n, emb_dim), nn.ReLU(), nn.Linear(emb_dim, emb_dim), nn.ReLU())

            self.global_encoder = way(n_features)
            self.local_encoder = way(n_features // n_chans * n_local)
            width = 2 * emb_dim
        else:
            self.global_encoder = MLPEncoder_feat(n_chans * n_times)
            self.local_encoder = ShallowNetEncoder(n_local, n_times)
            width = 128 + self.local_encoder.width
        self.projection = nn.Linear(width, n_tokens * token_dim)
        self.tokens = (n_tokens, token_dim)

    def forward(self, eeg):
        by_channel = eeg.reshape(eeg.shape[0], self.n_chans, -1)
        local = by_channel[:, self.local_chans] if self.local_chans else by_channel
        local = local.flatten(1) if self.input_type == "frequency" else local
        both = torch.cat([self.global_encoder(eeg), self.local_encoder(local)], 1)
        return self.projection(both).reshape(-1, *self.tokens)


class GLMNetCV(nn.Module):
    def __init__(self, n_outputs, n_chans=62, n_times=100, n_features=310, emb_dim=128, drop_prob=None, **_):
        super().__init__()
        drop = {} if drop_prob is None else {"drop_prob": drop_prob}
        self.g = ShallowNetEncoder(n_chans, n_times, **drop)
        self.l = MLPEncoder_feat(n_features, **drop)
        width = self.g.width + 128
        self.embedding = nn.Sequential(nn.Linear(width, emb_dim), nn.ReLU(), nn.Linear(emb_dim, n_outputs))

    def forward(self, eeg, features):
        return self.embedding(torch.cat([self.g(eeg.squeeze(1)), self.l(features)], 1))


class GLMNetMatched(nn.Module):
    def __init__(
        self,
        n_outputs,
        n_chans=62,
        n_times=100,
        n_features=310,
        emb_dim=512,
        local_chans=OCCIPITAL,
        drop_prob=0.5,
        **_,
    ):
        super().__init__()
        self.raw_global = ShallowNet(emb_dim, n_chans, n_times, drop_prob)
        self.freq_local = MlpNet(len(local_chans) * n_features // n_chans, emb_dim)
        self.fc = nn.Sequential(nn.Linear(2 * emb_dim, emb_dim), nn.GELU(), nn.Linear(emb_dim, n_outputs))
        self.local_chans = local_chans

    def embed(self, eeg, features):
        raw, freq = self.raw_global(eeg), self.freq_local(features[:, self.local_chans])
        (m, s), (fm, fs) = [(x.mean(1, keepdim=True), x.std(1, keepdim=True) + 1e-6) for x in (raw, freq)]
        return torch.cat([raw, (freq - fm) / fs * s + m], 1)

    def forward(self, eeg, features):
        return self.fc(self.embed(eeg, features))


class MyEEGNet_embedding(nn.Module):
    def __init__(self, n_chans=62, n_times=100, emb_dim=128, drop_prob=0.5, **_):
        super().__init__()
        self.block_1 = nn.Sequential(
            nn.ZeroPad2d((31, 32, 0, 0)), nn.Conv2d(1, 16, (1, 64), bias=False), nn.BatchNorm2d(16)
        )
        self.block_2 = nn.Sequential(
            nn.Conv2d(16, 64, (n_chans, 1), groups=16, bias=False),
            nn.BatchNorm2d(64),
            nn.ELU(),
            nn.AvgPool2d((1, 4)),
            nn.Dropout(drop_prob),
        )
        self.block_3 = nn.Sequential(
            nn.ZeroPad2d((7, 8, 0, 0)),
            nn.Conv2d(64, 64, (1, 16), groups=64, bias=False),
            nn.Conv2d(64, 16, 1, bias=False),
            nn.BatchNorm2d(16),
            nn.ELU(),
            nn.AvgPool2d((1, 8)),
            nn.Dropout(drop_prob),
        )
        self.embedding = nn.Linear(16 * left(n_times, (4, 4), (8, 8)), emb_dim)

    def forward(self, eeg):
        return self.embedding(self.block_3(self.block_2(self.block_1(eeg))).flatten(1))


def build(config):
    """The network a config.json describes."""
    sizes = {key: value for key, value in config.items() if key != "_class_name"}
    return globals()[config["_class_name"]](**sizes)


def compare(name, original, config, *inputs):
    """Stops unless a network of this file has the original's names and gives its values."""
    ours = build(config)
    names = [{k: tuple(v.shape) for k, v in m.state_dict().items()} for m in (original, ours)]
    if names[0] != names[1]:
        raise SystemExit(f"{name}: state dicts differ: {set(names[0].items()) ^ set(names[1].items())}")
    weights.fill(original)
    ours.load_state_dict(original.state_dict())
    outputs = []
    for model in (original, ours):
        with torch.no_grad():
            outputs.append(model.double().eval()(*[x.double() for x in inputs]))
    if outputs[0].shape == outputs[1].flatten(1).shape:
        outputs[1] = outputs[1].flatten(1)
    difference = float((outputs[0] - outputs[1]).abs().max())
    print(f"  {name}: as the original to {difference:.1e}")
    if not difference < 1e-12:
        raise SystemExit(f"{name}: {difference:.1e} from the original")


def compare_all(eeg2video, fork, fork_later):
    """Every network against its original at 62 channels and the length it fits."""
    torch.manual_seed(0)
    eeg, features, short = torch.randn(2, 1, 62, 200), torch.randn(2, 62, 5), torch.randn(2, 1, 62, 100)
    models = reference.eeg_vp_models(eeg2video)
    for name, original, inputs, more in (
        ("ShallowNet", models.shallownet(5, 62, 200), (eeg,), {}),
        ("DeepNet", models.deepnet(5, 62, 200), (eeg,), {}),
        ("EEGNet", models.eegnet(5, 62, 200), (eeg,), {}),
        ("TSConv", models.tsconv(5, 62, 200), (eeg,), {}),
        ("Conformer", models.conformer(out_dim=5), (eeg,), {}),
        ("MLP", models.mlpnet(5, 310), (features,), {}),
        ("GLMNet", models.glfnet(5, 6, 62, 200), (eeg,), {"emb_dim": 6}),
        ("GLMNetMLP", models.glfnet_mlp(5, 6, 310), (features,), {"emb_dim": 6}),
    ):
        compare(name, original, {"_class_name": name, "n_outputs": 5, **more}, *inputs)
    seq2seq = reference.seq2seq(eeg2video)
    compare(
        "MyEEGNet_embedding",
        seq2seq.MyEEGNet_embedding(d_model=24, T=100),
        {"_class_name": "MyEEGNet_embedding", "emb_dim": 24},
        short,
    )
    if fork:
        encoders, glmnet = reference.fork_encoders(fork), reference.fork_glmnet_cv(fork)
        flat, raw = features.flatten(1), short.squeeze(1)
        encoder = {"_class_name": "ShallowNetEncoder", "n_times": 100}
        compare("ShallowNetEncoder", encoders.ShallowNetEncoder(62, 100), encoder, raw)
        compare("MLPEncoder", encoders.MLPEncoder(), {"_class_name": "MLPEncoder", "n_outputs": 40}, flat)
        compare("MLPEncoder_feat", encoders.MLPEncoder_feat(), {"_class_name": "MLPEncoder_feat"}, flat)
        with torch.device("meta"):
            original = encoders.GLMNetEncoder("frequency", local_indices=OCCIPITAL)
        # 251 million parameters: a narrow projection in the place of 77 x 768.
        original.projection = nn.Linear(4096, 15)
        original = original.to_empty(device="cpu")
        config = {"_class_name": "GLMNetEncoder", "local_chans": OCCIPITAL, "n_tokens": 5, "token_dim": 3}
        original.forward = narrowed(original, 5, 3)
        compare("GLMNetEncoder", original, config, flat)
        parts = encoders.ShallowNetEncoder(62, 100), encoders.MLPEncoder_feat()
        # Asked for and not there at this commit.
        parts[0].output_dim, parts[1].output_dim = 3072, 128
        config = {"_class_name": "GLMNetCV", "n_outputs": 40}
        compare("GLMNetCV", glmnet.GLMNet(*parts), config, raw, features)
    if fork_later:
        glmnet = reference.fork_glmnet(fork_later)
        original = glmnet.GLMNet(OCCIPITAL, C=62, T=100, out_dim=5, emb_dim=6)
        config = {"_class_name": "GLMNetMatched", "n_outputs": 5, "emb_dim": 6}
        compare("GLMNetMatched", original, config, short, features)


def narrowed(encoder, n_tokens, token_dim):
    """The encoder's forward up to its projection: behind it the original has 77 x 768 written in."""

    def forward(eeg):
        local = eeg.view(eeg.shape[0], 62, -1)[:, encoder.local_indices].flatten(1)
        both = torch.cat([encoder.global_encoder(eeg), encoder.local_encoder(local)], 1)
        return encoder.projection(both).reshape(-1, n_tokens, token_dim)

    return forward
