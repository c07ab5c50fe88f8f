"""Flow matching: sigmas, interpolation, target, loss."""

from cosmos_vfm.flow.objective import interpolate, item_losses
from cosmos_vfm.flow.sigmas import draw_sigma, resolution_key, time_shift

__all__ = ["draw_sigma", "interpolate", "item_losses", "resolution_key", "time_shift"]
