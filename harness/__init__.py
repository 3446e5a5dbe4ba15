"""Ablation and benchmark harness for Dispersive Loss (Wang & He, arXiv 2506.09027)."""
