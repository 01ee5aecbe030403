"""What `vap-sim COMMAND` does: applications on top of every room; nothing else imports them."""
