"""The cpu engine: one C++ call a pass (step.cpp), in which a skipped layer's weights are never read."""
