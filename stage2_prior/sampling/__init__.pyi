from .inpainting import complete_images as complete_images
from .sampler import SamplingSettings as SamplingSettings
from .sampler import sample as sample
from .sampler import sample_images as sample_images
from .sliding_window import sample_larger_images as sample_larger_images
