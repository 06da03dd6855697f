"""What a person sees: the console, the HTML report, and exports."""
