"""Rows that are sums of others: what helps, what adds, what it costs."""
