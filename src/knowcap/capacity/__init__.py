"""The measurement: from losses to bits, from bits to laws, from laws to a report."""
