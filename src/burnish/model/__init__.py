"""Names to models, and models to logits. Knows tensors, no data and no templates."""

import logging

# peft imports bitsandbytes where it is installed, which then speaks of kernels that it could download.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
