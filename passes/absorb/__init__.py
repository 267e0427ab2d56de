"""How the linear operators before or after a per-channel affine map take it into their weight and bias."""
