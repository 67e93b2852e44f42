"""Reports people look at: one HTML file with figures that opens offline."""
