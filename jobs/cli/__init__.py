"""What the commands share: options, exit codes, help, reports, progress."""
