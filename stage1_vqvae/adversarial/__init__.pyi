from .adversary import Adversary as Adversary
from .discriminators import Discriminator as Discriminator
from .discriminators import PatchDiscriminator as PatchDiscriminator
from .discriminators import ProjectedDiscriminator as ProjectedDiscriminator
from .training import AdversarialTraining as AdversarialTraining
