import torch

from stage1_vqvae.quantizers.vector import EMAVectorQuantizer
from tests.support.vector_quantizers import both, started


@both
def test_after_a_first_batch_without_a_finite_vector_the_codebook_starts_at_the_next(family):
    torch.manual_seed(0)
    quantizer = family(dim=3, codebook_size=5)
    before = quantizer.codebook.clone()
    quantizer(torch.full((2, 3, 4), float("nan")))
    quantizer.step()
    assert torch.equal(quantizer.codebook, before)
    z = torch.randn(2, 3, 4) + 100
    quantizer(z)
    quantizer.step()
    rows = z.movedim(1, -1).reshape(-1, 3).tolist()
    assert sum(row in rows for row in quantizer.codebook.tolist()) >= 4  # EMA's have moved to the mean of their vectors
    assert len(quantizer.codebook.unique(dim=0)) == 5


@both
def test_a_first_batch_of_one_vector_is_a_start(family):
    quantizer = family(dim=3, codebook_size=4)
    quantizer(torch.tensor([[5.0, 6.0, 7.0]]))
    assert quantizer.codebook.tolist() == [[5.0, 6.0, 7.0]] * 4


@both
def test_codes_are_revived_at_a_pass_of_more_vectors_than_are_kept_of_several(family, monkeypatch):
    monkeypatch.setattr("stage1_vqvae.quantizers.vector.ROWS_KEPT", 5)
    quantizer = started(family, torch.tensor([[0.0, 0.0], [500.0, 0.0]]), revive_after=1.0)
    for _ in range(2):
        quantizer(100 + torch.rand(8, 2))  # not kept beside the next pass
        z = torch.rand(8, 2)
        quantizer(z)
        quantizer.step()
    assert quantizer.codebook[1].tolist() in z.tolist()


@both
def test_starts_where_the_data_are(family):
    torch.manual_seed(0)
    centres = torch.tensor([[10.0, 0.0], [0.0, 10.0], [-10.0, 0.0], [0.0, -10.0]])
    z = (centres.repeat(16, 1) + 0.1 * torch.randn(64, 2)).T[None]  # [1, 2, 64]
    quantizer = family(dim=2, codebook_size=8)
    quantized = quantizer(z)
    assert (quantized.vectors - z).square().sum(1).max() < 1
    assert quantizer.started


@both
def test_dead_codes_are_revived_and_live(family):
    torch.manual_seed(0)
    codebook = torch.full((4, 2), 1000.0)
    codebook[0] = 0
    quantizer = started(family, codebook, revive_after=5.0)
    z = torch.randn(16, 2, 8)
    for _ in range(20):
        quantizer(z)
        quantizer.step()
    assert quantizer.codebook.abs().max() < 100
    assert len(quantizer(z).codes.unique()) == 4


def test_a_revived_code_starts_anew_at_a_vector_of_the_batch_and_follows_the_next():
    torch.manual_seed(0)
    quantizer = started(EMAVectorQuantizer, torch.tensor([[0.0, 0.0], [500.0, 0.0]]), revive_after=3.0)
    for _ in range(2):
        z = torch.randn(1, 2, 4)  # two vectors a code and step
        quantizer(z)
        quantizer.step()
    assert quantizer.codebook[1].tolist() in z[0].T.tolist()
    assert (quantizer.usage[1], quantizer.idle[1]) == (0, 0)
    z = quantizer.codebook[1].view(1, 2, 1) + 0.01 * torch.randn(1, 2, 4)
    assert (quantizer(z).codes == 1).all()
    quantizer.step()
    torch.testing.assert_close(quantizer.codebook[1], z[0].mean(1))  # no memory of a use that never was


@both
def test_codes_that_die_again_and_again_are_revived_at_other_vectors(family):
    codebook = torch.full((3, 2), 1000.0)
    codebook[0] = 0
    quantizer = started(family, codebook, revive_after=1.0, decay=0.5)
    z = torch.arange(64.0).view(1, 1, 64).expand(1, 2, 64)  # the same batch, of distinct vectors, in every step
    places = []
    for _ in range(8):
        with torch.no_grad():
            quantizer.codebook[1:] = 1000.0  # far from every vector: dead
        quantizer(z)
        quantizer.step()
        places.append(tuple(quantizer.codebook[1:, 0].tolist()))
    assert places[0] == (1000.0, 1000.0)  # the first step's codes started at its vectors
    assert len(set(places[1:])) == 7
    assert all(one != other for one, other in places[1:])


@both
def test_a_revived_code_has_no_use_yet(family):
    torch.manual_seed(0)
    quantizer = started(family, torch.tensor([[0.0, 0.0], [5.0, 5.0], [400.0, 400.0]]), revive_after=3.0, decay=0.9)
    near = torch.randn(1, 2, 6) * 0.1
    for batch in (near + 400, near, near):  # the last code is used once and then dies
        quantizer(batch)
        quantizer.step()
        assert quantizer.usage[2] > 0 or quantizer.codebook[2].abs().max() < 10
    assert quantizer.codebook.abs().max() < 10
    assert quantizer.usage[2] == quantizer.idle[2] == 0


@both
def test_as_many_codes_are_revived_in_a_step_as_there_are_candidates(family, monkeypatch):
    monkeypatch.setattr("stage1_vqvae.quantizers.vector.CANDIDATES", 3)
    torch.manual_seed(0)
    codebook = 1000 + torch.arange(9.0)[:, None].expand(9, 2)
    quantizer = started(family, torch.cat([torch.zeros(1, 2), codebook]), revive_after=1.0)
    for step, far in enumerate([9, 6, 3, 0]):
        quantizer(torch.randn(1, 2, 40))
        quantizer.step()
        assert (quantizer.codebook[:, 0] > 900).sum() == far, step


@both
def test_codes_beyond_the_first_batch_wait_for_the_next_only(family):
    torch.manual_seed(0)
    quantizer = family(dim=3, codebook_size=60)
    for _ in range(4):  # of 20 vectors
        quantizer(torch.randn(4, 3, 5))
        quantizer.step()
    assert len(quantizer.codebook.unique(dim=0)) > 50


@both
def test_nothing_is_revived_where_that_is_off(family):
    quantizer = started(family, torch.tensor([[0.0, 0.0], [500.0, 0.0]]), revive_after=0.0)
    for _ in range(30):
        quantizer(torch.randn(1, 2, 4))
        quantizer.step()
    assert quantizer.codebook[1].tolist() == [500.0, 0.0]
