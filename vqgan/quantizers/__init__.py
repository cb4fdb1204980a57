"""QUANTIZERS: latents -> codes -> latents; this folder alone imports vector-quantize-pytorch.

A quantizer is a module with `codebook_size`, `forward(latents) -> Quantized`,
`lookup(codes) -> latents`, and `remedy`: what to change where few of its codes are used. It has
`codes_per_cell` if it writes several codes, side by side, for a cell of the latents, `code_levels`
if a code is several small numbers in one, and `expect(parts)` if its loss over a step in several
calls is not the mean of theirs. All of them quantise in float32 whatever autocast says: under bf16
some 2.5 % of the codes would change.
"""

from vqgan.quantizers.codebooks import RVQ, VQ, SimVQ
from vqgan.quantizers.levels import FSQ
from vqgan.quantizers.signs import BSQ, LFQ

QUANTIZERS = {"vq": VQ, "fsq": FSQ, "lfq": LFQ, "bsq": BSQ, "sim_vq": SimVQ, "rvq": RVQ}
