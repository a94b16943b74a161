# What cmake --install and cpack -G DEB put where.
