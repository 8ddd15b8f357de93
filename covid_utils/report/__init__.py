"""Report floor: tables, figures and the paper's claims, rebuilt from run folders."""
