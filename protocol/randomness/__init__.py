"""Draws nobody can steer: hash chains of contributions, lottery draws, audit tickets (spec 3.15, 5, 7.1, 7.2)."""
