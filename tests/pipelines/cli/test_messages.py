"""Whatever a user gets wrong is refused in a line that names the thing and says what would do; exit code 1."""

import importlib
import io
import pickle
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from tests.support.tiny import TINY


@pytest.fixture
def refusal(monkeypatch, capfd, tmp_path):
    """What a command that is refused says."""

    def run(command, *words):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [command, *words])
        with pytest.raises(SystemExit) as stopped:
            importlib.import_module(f"pipelines.{command}").main()
        said = str(stopped.value.code)
        assert said.startswith("error: ")
        assert len(said.strip().splitlines()) == 1
        assert "Traceback" not in said + capfd.readouterr().err
        return said

    return run


WRONG = {
    # change: what the message names, and what it says of what is expected, found or to be done
    "stage1.model.widht=8": ("stage1.model.widht", "did you mean width?"),
    "+stage1.modle.width=8": ("stage1.modle", "did you mean model?"),
    "stage1.model.width=abc": ("stage1.model.width", "int expected, got 'abc'"),
    "stage1.model.width=1.5": ("stage1.model.width", "int expected, got 1.5"),
    "stage1.model.width=null": ("stage1.model.width", "int expected, got None"),
    "stage1.model.channels=5": ("channels", "1 to 4"),
    "stage1.model.downsample_factor=3": ("downsample_factor", "power of two"),
    "stage1.model.padding=1": ("image_size 28×28 + 2 × padding 1", "30×30 would work"),
    "stage1/quantiser=ema": ("stage1/quantiser", "did you mean stage1/quantizer?"),
    "stage1.quantizer.dim=0": ("dim", "at least 1, got 0"),
    "stage1.quantizer.codebook_size=-1": ("codebook_size", "at least 1, got"),
    "stage1.quantizer.decay=2": ("decay", "in [0, 1), got 2"),
    "stage1/quantizer=emma": ("stage1/quantizer=emma: no such option", "did you mean ema?"),
    "stage1.batch_size=0": ("batch_size", "at least 1, got 0"),
    "stage1.batch_size=abc": ("stage1.batch_size", "int expected, got 'abc'"),
    "stage1.batch_size=100000": ("stage1.batch_size=100000", "stage1.batch_size=4500 or less"),
    "stage1.trainer.max_steps=0": ("max_steps", "at least 1, got 0"),
    "stage1.trainer.max_steps=-1": ("max_steps", "at least 1, got -1"),
    "stage1.trainer.max_stepz=3": ("stage1.trainer.max_stepz", "did you mean max_steps?"),
    "+stage1.trainer.max_epochs=3": ("stage1.trainer.max_epochs", "did you mean max_steps?"),
    "stage1.trainer.ema_decay=1": ("ema_decay", "(0, 1)"),
    "stage1.trainer.max_skipped=0": ("max_skipped", "at least 1, got 0"),
    "stage1.trainer.validate_every=x": ("stage1.trainer.validate_every", "int expected, got 'x'"),
    "stage1.optimization.learning_rate=-1": ("learning_rate", "above 0, got -1"),
    "stage1.optimization.learning_rate=fast": ("learning_rate", "float expected, got 'fast'"),
    "stage2.optimization.schedule=linear": ("schedule", "constant or cosine expected"),
    "stage2.model.heads=3": ("heads", "3"),
    "stage2.model.dropout=x": ("stage2.model.dropout", "float expected, got 'x'"),
    "stage2.label_dropout=2": ("label_dropout", "[0, 1], got 2"),
    "stage2.random_order=[0.5,0.2]": ("random_order", "rising order", "[0.5, 0.2]"),
    "stage2=transfromer": ("stage2=transfromer", "did you mean transformer?"),
    "data=nope": ("data=nope", "there are cifar10, folder, hub, imagenet, mnist5k"),
    "data.validation=1": ("data.validation", "between 0 and 1, got 1"),
    "data.channels=7": ("data.channels", "1 (grey)"),
    "data.image_size=28": ("data.image_size", "got 28"),
    "data.max_bad=2": ("data.max_bad", "between 0 and 1, got 2"),
    "data.cache_gib=-1": ("data.cache_gib", "0 or more, got -1"),
    "data.augmentation.shift=-1": ("shift", "0 or more, got -1"),
    "data=folder": ("data.files", "a value is needed"),
    "data=[folder,parquet]": ("data.files", "a value is needed"),
    "sampling.temperature=-1": ("temperature", "at least"),
    "sampling.top_p=2": ("top_p", "2"),
    "codes.copies=0": ("codes.copies", "at least 1, got 0"),
    "seed=null": ("seed", "int expected, got None"),
    "n=many": ("n", "int expected, got 'many'"),
    "n=0": ("n", "at least 1, got 0"),
    "batch_size=-5": ("batch_size", "at least 1, got -5"),
    "hardware.devices=0": ("devices", "at least 1, got 0"),
    "hardware=tpu": ("hardware=tpu", "did you mean gpu?"),
    "hardware.accelerator=gpu": ("accelerator", "hardware=cpu"),
    "experiment=nope": ("experiment=nope", "mnist5k"),
    "logger=nope": ("logger=nope", "csv"),
    "stage1.model._target_=os.system": ("stage1.model._target_", "'os.system' is outside of this project"),
    "stage1.model._target_=torch.load": ("stage1.model._target_", "trust=[torch]"),
    "stage1.model._target_=stage1_vqvae.vqvae.Nope": ("stage1.model._target_", "there is no"),
    "n=[1,2": ("n=[1,2", "grammar", "\"n='[1,2'\""),
    "stage1.model.norm=ü": ("stage1.model.norm=ü", "\"stage1.model.norm='ü'\""),
    "hello": ("hello", "key=value expected"),
    "output=null": ("output", "str expected, got None"),
    "~logger": ("logger", "a value is needed"),
    "~stage2.trainer": ("stage2.trainer", "a value is needed"),
    "~seed": ("seed", "a value is needed; stage1.seed is taken from it"),
    "sampling=null": ("sampling", "mapping expected, got None"),
    "codes=null": ("codes", "mapping expected, got None"),
    "seed=5000000000": ("seed", "from 0 to 2^32 - 1, got 5000000000"),
    "stage2.seed=-1": ("stage2.seed", "from 0 to 2^32 - 1, got -1"),
    "stage1.model.quantizer.dmi=3": (
        "quantizer.dmi",
        "stage1.quantizer",  # OmegaConf 2.4 follows the key to where it stands
        "did you mean dim?",
    ),
    "hardware.strateg=ddp": ("hardware.strateg", "did you mean strategy?"),
    "hardware.precision=17": ("hardware.precision", "32-true or bf16-mixed"),
    "stage2.label_dropout=0": ("sampling.guidance=1.25", "stage2.label_dropout=0.1"),
    "hardware.num_nodes=2": ("hardware.num_nodes", "torchrun or srun"),
    "output=taken/below": ("taken/below", "give another output="),
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Decoded digits, for all that look at them."""
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("change", list(WRONG))
def test_a_wrong_setting(change, refusal, cache, tmp_path):
    (tmp_path / "taken").touch()
    said = refusal("run", *TINY, f"data.cache={cache}" if "data=" not in change else "n=1", change)
    for part in WRONG[change]:
        assert part in said
    assert not list(tmp_path.rglob("*.safetensors")) + list(tmp_path.rglob("*.ckpt"))


def picture(path, size=(16, 16)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(list(path.name.encode())).integers(0, 256, (*size, 3), dtype=np.uint8)).save(
        path
    )


def no_folder(folder):
    return "is not a folder"


def empty_folder(folder):
    folder.mkdir()
    return "no images below"


def text_files(folder):
    folder.mkdir()
    (folder / "readme.txt").write_text("hello")
    return "no images below"


def one_image(folder):
    picture(folder / "a.png")
    return "at least two different images are expected"


def empty_class(folder):
    picture(folder / "cat" / "a.png")
    (folder / "dog").mkdir()
    return "holds no images: add some or remove it"


def loose_images(folder):
    picture(folder / "cat" / "a.png")
    picture(folder / "b.png")
    return "images outside of the class folders of photos: 1 (the first is b.png)"


def no_pictures(folder):
    for name in "abc":
        picture(folder / f"{name}.png")
        (folder / f"{name}.png").write_text("hello")
    return "3 of 3 images"


def bomb(folder):
    picture(folder / "a.png")
    Image.new("1", (2**14, 2**13)).save(folder / "b.png")
    return "16384×8192 pixels, at most"


def few_images(folder):
    for name in "abcd":
        picture(folder / f"{name}.png")
    return "batch_size=16 is more than the 3 training images"


@pytest.mark.parametrize(
    "make",
    [no_folder, empty_folder, text_files, one_image, empty_class, loose_images, no_pictures, bomb, few_images],
)
def test_a_wrong_folder_of_images(make, refusal, tmp_path):
    expected = make(tmp_path / "photos")
    words = ["data=folder", "data.files=photos", "data.image_size=[16,16]", f"data.cache={tmp_path / 'cache'}"]
    assert expected in refusal("run", *TINY[1:], *words, "output=made", "stage1.model.image_size=[16,16]")
    assert not list(tmp_path.rglob("*.ckpt"))


class Payload:
    def __reduce__(self):
        return open, ("ran", "w")


def damage(name, how):
    def change(run):
        path = run / name
        path.write_bytes(how(path.read_bytes()))

    return change


def flipped(data):
    return data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]


def halved(data):
    return data[: len(data) // 2]


def evil_pickle(data):
    return pickle.dumps(Payload())


def evil_zip(data):
    buffer = io.BytesIO()
    np.savez(buffer, codes=np.array([Payload()], dtype=object))
    return buffer.getvalue()


def evil_target(data):
    return data.replace(b"stage1_vqvae.VQVAE", b"subprocess.Popen")


def evil_yaml(data):
    return b"kind: !!python/object/apply:os.mkdir [ran]\n"


BROKEN = {
    "a cut tokenizer": (damage("tokenizer/model.safetensors", halved), "sample", "model.safetensors cannot be read"),
    "a pickled tokenizer": (damage("tokenizer/model.safetensors", evil_pickle), "sample", "cannot be read"),
    "an archive as tokenizer": (damage("tokenizer/model.safetensors", evil_zip), "sample", "cannot be read"),
    "a tokenizer that calls": (damage("tokenizer/config.yaml", evil_target), "sample", "outside of this project"),
    "a configuration that calls": (damage("tokenizer/config.yaml", evil_yaml), "sample", "is not valid YAML"),
    "an empty configuration": (damage("prior/config.yaml", lambda data: b""), "sample", "format 1 or 2 expected"),
    "another tokenizer": (
        damage("tokenizer/model.safetensors", flipped),
        "sample",
        "was trained on codes of tokenizer",
    ),
    "a flipped bit of codes": (damage("codes/train/codes-00000-of-00001.safetensors", flipped), "prior", "is damaged"),
    "cut codes": (damage("codes/train/codes-00000-of-00001.safetensors", halved), "prior", "is damaged"),
    "pickled codes": (damage("codes/train/codes-00000-of-00001.safetensors", evil_pickle), "prior", "is damaged"),
    "an edited manifest": (damage("codes/train/manifest.json", flipped), "prior", "manifest.json"),
    "codes of another tokenizer": (damage("tokenizer/model.safetensors", flipped), "extract", "of other settings"),
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_a_broken_or_evil_file(name, refusal, tiny_run, tmp_path):
    change, use, message = BROKEN[name]
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    change(run)
    if use == "sample":
        said = refusal("sample", f"model={run}", "output=drawn")
    elif use == "extract":
        said = refusal("extract_codes", *TINY, f"output={run}")
    else:
        shutil.rmtree(run / "prior")
        shutil.rmtree(run / "checkpoints" / "stage2")  # which belongs to the codes as they were
        said = refusal("train_stage2", *TINY, f"output={run}")
    assert message in said
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "drawn").exists()


CODE = "open('ran', 'w')\n"


def test_code_beside_models_codes_and_images_never_runs(tiny_run, monkeypatch, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    for folder in (run, run / "tokenizer", run / "prior", run / "codes" / "train", tmp_path):
        for name in ("__init__.py", "modeling.py", "conftest.py", "sitecustomize.py", "conf.py", "stage1_vqvae.py"):
            (folder / name).write_text(CODE)
        for name in ("pytorch_model.bin", "model.pt", "model.ckpt", "codes.pkl"):
            (folder / name).write_bytes(pickle.dumps(Payload()))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["sample", f"model={run}", "n=2", "output=drawn"])
    importlib.import_module("pipelines.sample").main()
    assert (tmp_path / "drawn" / "images.npz").exists()
    assert not list(tmp_path.rglob("ran"))


SECRETS = {"MY_TOKEN": "t0k3n-of-mine", "WANDB_API_KEY": "k3y-of-wandb" * 4}


def test_secrets_are_nowhere_in_what_a_run_leaves(monkeypatch, cache, tmp_path):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    words = [*TINY, "logger=wandb", "wandb_mode=offline", "output=made", f"data.cache={cache}"]
    words += ["trust=[${oc.env:MY_TOKEN},t0k3n-of-mine]", "stage1.trainer.max_steps=1", "stage2.trainer.max_steps=1"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["run", *words])
    importlib.import_module("pipelines.run").main()
    files = [path for path in (tmp_path / "made").rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    found = [path for path in files for value in SECRETS.values() if value.encode() in path.read_bytes()]
    assert sorted({path.name for path in found}) == []
