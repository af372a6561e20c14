"""A name to a whole model; a flat batch to what the head reads. Knows tensors, no data and no templates."""

import logging

# peft imports bitsandbytes where it is installed, which then speaks of kernels that it could download.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
