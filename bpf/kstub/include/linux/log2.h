/* bcc wants log2 for tables that Tabard does not use. */
