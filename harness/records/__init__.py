"""What trials leave behind: records, how they are stored, read and looked after."""
