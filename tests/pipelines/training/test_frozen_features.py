import pytest

from stage1_vqvae.adversarial import AdversarialTraining, Adversary, ProjectedDiscriminator
from stage1_vqvae.lightning_module import TokenizerTraining
from stage1_vqvae.losses import SquaredError, WeightedSum
from stage1_vqvae.networks import lite0
from stage1_vqvae.perceptual import Perceptual
from tests.support.resuming import At, assert_same, die, final_state, tokenizer_training, train

pytestmark = pytest.mark.skipif(not lite0.is_installed(), reason="pip install 'vqvae-prior[lite0]'")


def perceptual_training():
    plain = tokenizer_training()
    objective = WeightedSum(
        {"pixels": SquaredError(), "perceptual": Perceptual([0])}, {"pixels": 1.0, "perceptual": 0.5}
    )
    return TokenizerTraining(plain.model, objective, plain.augmentation, plain.optimization, seed=1)


def projected_training():
    plain = tokenizer_training()
    return AdversarialTraining(
        plain.model,
        ProjectedDiscriminator(layers=[0]),
        plain.objective,
        plain.augmentation,
        plain.optimization,
        seed=1,
        discriminator_optimization=plain.optimization,
        adversary=Adversary(onset=2, ramp=1),
    )


@pytest.mark.parametrize("make", [perceptual_training, projected_training])
def test_a_network_that_is_not_trained_is_in_no_checkpoint_and_in_no_average(make, tmp_path):
    weights, metrics = train(make(), tmp_path / "whole", max_steps=6)
    with pytest.raises(SystemExit):
        train(make(), tmp_path / "killed", [At(die, 5)], max_steps=6)
    found, same_metrics = train(make(), tmp_path / "killed", max_steps=6)
    assert_same(found, weights)
    assert same_metrics == metrics
    state = final_state(tmp_path / "whole")
    assert_same(final_state(tmp_path / "killed"), state)
    assert not [name for name in state if ".network." in name]
