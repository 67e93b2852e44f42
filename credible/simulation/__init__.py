"""Repeated auctions between bidder and auctioneer agents, honest and cheating, through the full protocol."""
