"""Jobs on a cluster: sent, asked after, ended."""
