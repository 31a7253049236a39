from threading import Thread

import torch

from stage2_prior.frozen import frozen, prepared


def test_inside_the_first_one_made_is_everybodys():
    module, other, made = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1), []

    def make():
        made.append(object())
        return made[-1]

    assert prepared(module, "a", make) is not prepared(module, "a", make)
    with frozen(module):
        first = prepared(module, "a", make)
        with frozen(module):
            assert prepared(module, "a", make) is first
        threads = [Thread(target=lambda: made.append(prepared(module, "a", make))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert made[3:] == [first] * 4
        assert prepared(module, "b", make) is not first
        assert prepared(other, "a", make) is not first
    assert prepared(module, "a", make) is not first
