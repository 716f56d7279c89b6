"""Small calls like one before: templates of their requests and answers, into which only numbers are put."""
