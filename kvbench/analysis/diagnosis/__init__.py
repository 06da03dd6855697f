"""Why a comparison came out as it did, in sentences that the record bears out."""
