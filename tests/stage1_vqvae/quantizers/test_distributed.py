"""What holds across ranks: state is equal at every step, and equal to one process's on the joined batch."""

import copy
from itertools import pairwise

import numpy as np
import torch

from stage1_vqvae.quantizers import IBQ, BinarySpherical, EMAVectorQuantizer, LookupFree, SimVQ, VectorQuantizer
from tests.support.distributed import on_two_ranks


def batches():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(6, 2, 5, generator=generator) for _ in range(8)]


def build(family):
    torch.manual_seed(0)
    # Many codes for few vectors: some die and are revived.
    return family(dim=2, codebook_size=24, decay=0.5, revive_after=3.0)


def train(quantizer, parts):
    states = []
    for part in parts:
        quantizer(part)
        quantizer.step()
        states.append({name: value.clone() for name, value in quantizer.state_dict().items()})
    return states


def _train_parts(rank, quantizers):
    found = {}
    for name, (quantizer, share) in quantizers.items():
        quantizer = copy.deepcopy(quantizer)  # both processes were given the same memory
        parts = [batch[:share] if rank == 0 else batch[share:] for batch in batches()]
        found[name] = {str(step): state for step, state in enumerate(train(quantizer, parts))}
    return found


def test_two_ranks_equal_one_process_at_every_step():
    families = (EMAVectorQuantizer, VectorQuantizer)
    shares = (3, 6)  # the second leaves rank 1 with nothing to contribute
    # Built here, before there is a process group.
    quantizers = {f"{family.__name__} {share}": (build(family), share) for family in families for share in shares}
    first, second = on_two_ranks(_train_parts, quantizers)
    for case, (quantizer, _) in quantizers.items():
        alone = train(copy.deepcopy(quantizer), batches())
        assert any(not torch.equal(one["codebook"], two["codebook"]) for one, two in pairwise(alone))
        assert any((two["idle"] < one["idle"]).any() and two["usage"].eq(0).any() for one, two in pairwise(alone))
        for step, expected in enumerate(alone):
            for name, value in expected.items():
                found = first[case][str(step)][name]
                np.testing.assert_array_equal(found, second[case][str(step)][name])
                np.testing.assert_allclose(found, value.numpy(), rtol=1e-5, atol=1e-5, err_msg=f"{case} {step} {name}")


def of_all_ranks():
    torch.manual_seed(0)
    return {
        "lfq": LookupFree(dim=4),
        "bsq": BinarySpherical(dim=4, temperature=0.1),
        "ibq": IBQ(4, 9, entropy=0.5),
        "simvq": SimVQ(4, 9),  # whose map starts at the moments of all ranks' vectors
    }


def loss_and_gradient(quantizer, z):
    z = z.clone().requires_grad_()
    loss = quantizer(z).loss
    loss.backward()
    return {"loss": loss, "gradient": z.grad}


def _losses_of_part(rank):
    z = torch.randn(8, 4, 5, generator=torch.Generator().manual_seed(1))
    return {name: loss_and_gradient(each, z[:4] if rank == 0 else z[4:]) for name, each in of_all_ranks().items()}


def test_what_a_loss_takes_from_a_batch_is_of_all_ranks():
    z = torch.randn(8, 4, 5, generator=torch.Generator().manual_seed(1))
    found = on_two_ranks(_losses_of_part)
    for name, quantizer in of_all_ranks().items():
        alone = loss_and_gradient(quantizer, z)
        joined = np.concatenate([rank[name]["gradient"] for rank in found]) / 2  # DistributedDataParallel's mean
        np.testing.assert_allclose(joined, alone["gradient"].numpy(), rtol=1e-4, atol=1e-7, err_msg=name)
        mean = np.mean([rank[name]["loss"] for rank in found])
        np.testing.assert_allclose(mean, alone["loss"].item(), rtol=1e-5, err_msg=name)
