"""Who answers where devices do not: kept as policies, put into orders, and run only while somebody needs it."""
