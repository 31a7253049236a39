"""The smallest settings with which every part of a run still does its work."""

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from pipelines.config.conf import CONF
from pipelines.config.hydra_versions import VERSION_BASE

NEAREST = ["stage1.quantizer.dim=4", "stage1.quantizer.codebook_size=16"]
"""Of the quantizers that search a codebook; the others' are below."""
QUANTIZERS = {
    "fsq": ["stage1.quantizer.levels=[4,4]"],
    "lfq": ["stage1.quantizer.dim=4"],
    "bsq": ["stage1.quantizer.dim=4"],
    "residual": [
        "stage1.quantizer.quantizer.dim=4",
        "stage1.quantizer.quantizer.codebook_size=16",
        "stage1.quantizer.depth=2",
    ],
    "product": [
        "stage1.quantizer.quantizer.dim=2",
        "stage1.quantizer.quantizer.codebook_size=16",
        "stage1.quantizer.groups=2",
    ],
    "multi_head": [
        "stage1.quantizer.quantizer.dim=2",
        "stage1.quantizer.quantizer.codebook_size=16",
        "stage1.quantizer.heads=2",
    ],
    "projected": [
        "stage1.quantizer.quantizer.dim=2",
        "stage1.quantizer.quantizer.codebook_size=16",
        "stage1.quantizer.dim=4",
    ],
}
REST = [
    "experiment=mnist5k",
    "logger=csv",
    "n=20",
    "stage1.model.width=8",
    "stage1.model.residual_width=4",
    "stage1.model.residual_layers=1",
    "stage2.model.width=16",
    "stage2.model.layers=1",
    "stage2.model.heads=2",
    "codes.copies=1",
]
for stage in ("stage1", "stage2"):
    REST += [f"{stage}.batch_size=16", f"{stage}.trainer.max_steps=6"]
    REST += [f"{stage}.trainer.validate_every=3", f"{stage}.trainer.checkpoint_every=2"]
TINY = [*REST, *NEAREST]
HIERARCHY = [
    "experiment=mnist5k_vqvae2",
    *[word for word in REST if not word.startswith(("experiment=", "stage2.model."))],
    *[f"stage1.levels.{level}.dim=4" for level in ("top", "bottom")],
    "stage1.levels.top.codebook_size=16",
    "stage1.levels.bottom.codebook_size=8",
    "stage2.model.width=8",
    "stage2.model.layers=2",
]
"""Two levels; the last two words are the prior's alone."""


def tiny(quantizer):
    """The same with another quantizer, an option of conf/stage1/quantizer."""
    return [*REST, f"stage1/quantizer={quantizer}", *QUANTIZERS.get(quantizer, NEAREST)]


def compose(*overrides, command="config"):
    """A command's settings as it would see them."""
    with initialize_config_dir(str(CONF), **VERSION_BASE):
        config = hydra_compose(command, overrides=list(overrides))
    return OmegaConf.to_container(config, resolve=True)
