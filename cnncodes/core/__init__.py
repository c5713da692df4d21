"""What every room uses: errors, records, files, words, and how the work is done."""
