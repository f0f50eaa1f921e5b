"""How it looks: figures, the page, the terminal summary, exports."""
