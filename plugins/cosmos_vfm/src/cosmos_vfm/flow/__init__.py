"""Flow matching: noise levels, interpolation, target, loss."""

from cosmos_vfm.flow.levels import draw_sigma, resolution_key, shifted
from cosmos_vfm.flow.objective import interpolate, item_losses

__all__ = ["draw_sigma", "interpolate", "item_losses", "resolution_key", "shifted"]
